/* SPDX-License-Identifier: Apache-2.0
 *
 * Words that several commands print and for which the library has no function.
 */
#include "cli.h"

const char *const cli_epilogue_names[CLI_EPILOGUE_BITS] = {"bias", "swiglu", "gather", "scatter"};

const cli_word cli_verdicts[] = {[GEMMUX_REJECTED] = {"rejected", CLI_BAD},
                                 [GEMMUX_ELIGIBLE] = {"eligible", CLI_WARN},
                                 [GEMMUX_CHOSEN] = {"chosen", CLI_GOOD}};

const char *cli_targets(const gemmux_gpu_scan *scan, char *buffer, size_t size)
{
    size_t used = 0;
    char name[16];
    buffer[0] = '\0';
    for (int i = 0; i < scan->code_count && used < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? " " : "",
                                 gemmux_gpu_code_name(&scan->code[i], name, sizeof name));
    return buffer;
}

json_t *cli_json_targets(const gemmux_gpu_scan *scan)
{
    json_t *list = json_array();
    char name[16];
    for (int i = 0; i < scan->code_count; i++)
        json_array_append_new(list,
                              json_string(gemmux_gpu_code_name(&scan->code[i], name, sizeof name)));
    return list;
}
