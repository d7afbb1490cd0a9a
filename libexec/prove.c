/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux-prove: the program in which a library that is linked dynamically proves GPU kernels. It is
 * started by gemmux_certify and by nobody else.
 */
#include <gemmux.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    int code = gemmux_prove_main(argc, argv);
    if (code < 0)
        fputs("gemmux-prove: the library starts this by itself; `gemmux check` proves kernels\n",
              stderr);
    return code < 0 ? 2 : code;
}
