/* SPDX-License-Identifier: Apache-2.0
 *
 * What the emulator's cuTensorMapEncodeTiled writes into the 128 bytes of a map: between the driver
 * and the copies of hopper.cpp.
 */
#ifndef GEMMUX_EMULATOR_TENSOR_MAP_H
#define GEMMUX_EMULATOR_TENSOR_MAP_H

#include <cstdint>

enum : uint32_t { EMULATED_TENSOR_MAP = 0x70616d74 };

struct emulated_tensor_map {
    uint32_t magic, rank;
    const uint8_t *address;
    uint64_t sizes[3], strides[2]; // sizes of ranks that are not there are 1
    uint32_t box[3], element_bytes, swizzle;
};
static_assert(sizeof(emulated_tensor_map) <= 128, "fits a CUtensorMap");

#endif
