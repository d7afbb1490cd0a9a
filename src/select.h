/* SPDX-License-Identifier: Apache-2.0
 *
 * The checks that select makes, in the order it makes them. Separate from select.c because
 * explain.c turns each into words from the same table, so a check cannot exist without its text.
 */
#ifndef GEMMUX_SELECT_H
#define GEMMUX_SELECT_H

#include "kernel.h"

/* id, stage, stable code, kind of need and have, sentence. {need} and {have} are filled in from
 * the numbers that were compared; {note} is a configure function's or a record's own text. */
#define GEMMUX_CHECKS(X)                                                                           \
    X(OP, OP, "op-unsupported", OPS, "does {need}, not {have}")                                    \
    X(EPILOGUE, OP, "epilogue-unsupported", EPILOGUE,                                              \
      "has no epilogue for {need}; it can do {have}")                                              \
    X(DEVICE_KIND, DEVICE, "wrong-device", DEVICE, "runs on {need}; this device is {have}")        \
    X(ISA, DEVICE, "isa-missing", ISA, "needs {need}; this CPU has {have}")                        \
    X(ARCH_OLD, DEVICE, "arch-too-old", CC, "needs {need} or newer; this device is {have}")        \
    X(ARCH_NEW, DEVICE, "arch-too-new", CC,                                                        \
      "knows nothing newer than {need}; this device is {have}")                                    \
    X(ARCH_EXACT, DEVICE, "arch-not-exact", CC,                                                    \
      "is built for {need} exactly (an 'a' target); this device is {have}")                        \
    X(ARCH_FAMILY, DEVICE, "arch-not-in-family", CC,                                               \
      "is built for the family of {need} (an 'f' target); this device is {have}")                  \
    X(SHARED_MEMORY, DEVICE, "shared-memory", BYTES,                                               \
      "needs {need} of shared memory a block; this device allows {have}")                          \
    X(DEVICE_MEMORY, DEVICE, "device-memory", BYTES,                                               \
      "needs {need} for weights and workspace; this device has {have}")                            \
    X(X_FORMAT, PRECISION, "x-format", FORMATS, "takes x in {need}, not {have}")                   \
    X(W_FORMAT, PRECISION, "w-format", FORMATS, "takes w in {need}, not {have}")                   \
    X(Y_FORMAT, PRECISION, "y-format", FORMATS, "gives y in {need}, not {have}")                   \
    X(COMBINATION, PRECISION, "format-combination", TRIPLE,                                        \
      "takes these formats in other combinations: {need}, not {have}")                             \
    X(X_SCALING, PRECISION, "x-scaling", SCALING, "takes x scaled by {need}, not by {have}")       \
    X(W_SCALING, PRECISION, "w-scaling", SCALING, "takes w scaled by {need}, not by {have}")       \
    X(W_SCALE, PRECISION, "w-scale-type", CODES, "reads scales of w in {need}, not {have}")        \
    X(W_ZERO, PRECISION, "w-zero-point", ZEROS, "takes w with {need}, not with {have}")            \
    X(X_GROUP, PRECISION, "x-group", COUNT,                                                        \
      "needs x's scale groups in multiples of {need} along K; they are {have}")                    \
    X(W_GROUP, PRECISION, "w-group", COUNT,                                                        \
      "needs w's scale groups in multiples of {need} along K; they are {have}")                    \
    X(PACKING, PRECISION, "packing-mismatch", PACKING,                                             \
      "reads weights packed as {need}; they are packed as {have}")                                 \
    X(PACKING_FORMAT, PRECISION, "packing-format", PACKING_FORMAT,                                 \
      "reads weights packed as {need}, which does not hold {have}")                                \
    X(M_MIN, PRECISION, "m-too-small", COUNT, "needs at least {need} rows; there are {have}")      \
    X(M_MAX, PRECISION, "m-too-large", COUNT, "takes at most {need} rows; there are {have}")       \
    X(M_MULTIPLE, PRECISION, "m-multiple", COUNT, "needs M in multiples of {need}; M is {have}")   \
    X(N_MULTIPLE, PRECISION, "n-multiple", COUNT, "needs N in multiples of {need}; N is {have}")   \
    X(K_MULTIPLE, PRECISION, "k-multiple", COUNT, "needs K in multiples of {need}; K is {have}")   \
    X(ALIGNMENT, PRECISION, "alignment", BYTES,                                                    \
      "needs x and y and their rows aligned to {need}; they are aligned to {have}")                \
    X(LIBERTY, PRECISION, "liberty-not-allowed", LIBERTIES,                                        \
      "takes the liberty {need}; the caller allows {have}")                                        \
    X(CONFIGURE, PRECISION, "no-configuration", NONE, "finds no configuration: {note}")            \
    X(LIBRARY_ABSENT, LIBRARY, "library-absent", LIBRARY, "needs {need}, which was {have}")        \
    X(LIBRARY_OLD, LIBRARY, "library-too-old", VERSION,                                            \
      "needs {need} or newer; this machine has {have}")                                            \
    X(LIBRARY_CODE, LIBRARY, "library-no-code", LIBRARY,                                           \
      "needs code in {need} for this device; the library that was found carries none")             \
    X(REFUSED, LIBRARY, "refused", NONE, "refuses this product when it is prepared: {note}")       \
    X(NOT_BUILT, LIBRARY, "not-built", NONE,                                                       \
      "was not built into this library: its compiler or target was absent")                        \
    X(DENIED, FLAGS, "denied", NONE, "is denied by the caller")                                    \
    X(NOT_FORCED, FLAGS, "not-forced", NONE, "is not among the kernels the caller asked for")      \
    X(UNORDERED, FLAGS, "not-deterministic", NONE,                                                 \
      "sums in an order that may change between runs; the caller wants determinism")               \
    X(MEMORY_BUDGET, FLAGS, "memory-budget", BYTES,                                                \
      "needs {need} for weights and workspace; the caller's budget is {have}")                     \
    X(SLOWDOWN, FLAGS, "slowdown-budget", RATIO,                                                   \
      "would be {have} times slower than the best kernel for this device; the caller's limit is "  \
      "{need}")                                                                                    \
    X(QUARANTINED, FLAGS, "quarantined", NONE, "is quarantined on this machine: {note}")           \
    X(NOT_PROVED, FLAGS, "not-certified", NONE, "has no certificate on this machine yet")          \
    X(UNPROVEN, FLAGS, "unproven", NONE,                                                           \
      "is taken only by name or with a certificate; so far it was {note}")

typedef enum gemmux_check {
#define GEMMUX_CHECK_ENUM(id, stage, code, kind, text) GEMMUX_CHECK_##id,
    GEMMUX_CHECKS(GEMMUX_CHECK_ENUM)
#undef GEMMUX_CHECK_ENUM
        GEMMUX_CHECK_COUNT
} gemmux_check;

#endif
