/* SPDX-License-Identifier: Apache-2.0
 *
 * Which part of a quantisation config applies to one module. Separate from reading the config:
 * each method has its own rule for names.
 */
#include "hf_config.h"
#include "pattern.h"
#include "wildcard.h"

#include <string.h>

/* Do the dot-separated parts of `inner` occur one after the other in `name`? */
static bool parts_occur(const char *inner, const char *name, size_t length)
{
    size_t inner_length = strlen(inner);
    for (size_t i = 0; inner_length && i + inner_length <= length; i++) {
        bool starts = i == 0 || name[i - 1] == '.';
        bool ends = i + inner_length == length || name[i + inner_length] == '.';
        if (starts && ends && memcmp(name + i, inner, inner_length) == 0)
            return true;
    }
    return false;
}

static bool equals(const char *text, const char *name, size_t length)
{
    return strlen(text) == length && memcmp(text, name, length) == 0;
}

/* compressed-tensors: an exact name or "re:" and an expression. */
static bool names_module(const char *target, const char *name, size_t length)
{
    if (strncmp(target, "re:", 3) == 0)
        return gemmux_regex_match(target + 3, name, length);
    return equals(target, name, length);
}

/* compressed-tensors: a target may be a class, and our modules are all linears. */
static bool names_class(const char *target)
{
    return strcmp(target, "Linear") == 0;
}

static bool is_ignored(const gemmux_hf_config *config, const char *name, size_t length)
{
    for (int32_t i = 0; i < config->ignored_count; i++) {
        const char *pattern = config->ignored[i];
        if (config->method == GEMMUX_HF_COMPRESSED_TENSORS) {
            if (names_module(pattern, name, length) || names_class(pattern))
                return true;
        } else if (strpbrk(pattern, "*?")) {
            if (gemmux_glob_match(pattern, strlen(pattern), name, length))
                return true;
        } else if (parts_occur(pattern, name, length)) {
            return true;
        }
    }
    return false;
}

const gemmux_hf_group *gemmux_hf_module(const gemmux_hf_config *config, const char *name,
                                        size_t length)
{
    if (config->method == GEMMUX_HF_NONE || is_ignored(config, name, length))
        return NULL;
    for (int32_t i = 0; i < config->group_count; i++) {
        if (config->groups[i].everything)
            return &config->groups[i];
    }
    for (int pass = 0; pass < 2; pass++) { /* a name beats a class */
        for (int32_t i = 0; i < config->group_count; i++) {
            const gemmux_hf_group *group = &config->groups[i];
            for (int32_t j = 0; j < group->target_count; j++) {
                if (pass == 0 ? names_module(group->targets[j], name, length)
                              : names_class(group->targets[j]))
                    return group;
            }
        }
    }
    return NULL;
}
