/* SPDX-License-Identifier: Apache-2.0 */
#include "certify_device.h"

#include "driver/symbols.h"
#include "error.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* CUmemAllocationProp and CUmemAccessDesc of the driver API. */
typedef struct allocation_properties {
    int type, handle_types;
    int location_type, location_id;
    void *win32;
    unsigned char flags[8];
} allocation_properties;

typedef struct access_descriptor {
    int location_type, location_id;
    int flags;
} access_descriptor;

enum {
    PINNED = 1,        /* CU_MEM_ALLOCATION_TYPE_PINNED */
    ON_DEVICE = 1,     /* CU_MEM_LOCATION_TYPE_DEVICE */
    READ_WRITE = 3,    /* CU_MEM_ACCESS_FLAGS_PROT_READWRITE */
    HAS_MAPPING = 102, /* CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED */
    PATTERN = 0xa5,    /* of certify_guard.c */
    FRONT = 256        /* bytes of it in front of a workspace */
};

/* Since CUDA 10.2. Used here alone, so not in the library's table. */
#define MAPPING_FUNCTIONS(X)                                                                       \
    X("cuMemGetAllocationGranularity", granularity,                                                \
      (size_t * bytes, const allocation_properties *properties, int option))                       \
    X("cuMemAddressReserve", reserve,                                                              \
      (gemmux_cu_pointer * at, size_t bytes, size_t align, gemmux_cu_pointer wish,                 \
       unsigned long long flags))                                                                  \
    X("cuMemAddressFree", give_back, (gemmux_cu_pointer at, size_t bytes))                         \
    X("cuMemCreate", create,                                                                       \
      (unsigned long long *handle, size_t bytes, const allocation_properties *properties,          \
       unsigned long long flags))                                                                  \
    X("cuMemRelease", release, (unsigned long long handle))                                        \
    X("cuMemMap", map,                                                                             \
      (gemmux_cu_pointer at, size_t bytes, size_t offset, unsigned long long handle,               \
       unsigned long long flags))                                                                  \
    X("cuMemUnmap", unmap, (gemmux_cu_pointer at, size_t bytes))                                   \
    X("cuMemSetAccess", set_access,                                                                \
      (gemmux_cu_pointer at, size_t bytes, const access_descriptor *access, size_t count))

/* Device memory that ends at an unmapped page, reused from case to case. */
typedef struct slot {
    gemmux_cu_pointer base;
    size_t bytes;
} slot;

enum {
    SLOT_X_CODES,
    SLOT_X_SCALES,
    SLOT_X_ZEROS,
    SLOT_X_GLOBALS,
    SLOT_IDS,
    SLOT_WEIGHTS,
    SLOT_Y,
    SLOT_WORKSPACE,
    SLOT_COUNT
};

struct gemmux_proof_device {
    gemmux_cuda_device device;
    bool maps; /* else plain allocations: guards, but no page that faults */
    size_t grain;
#define FIELD(symbol, field, parameters) int(*field) parameters;
    MAPPING_FUNCTIONS(FIELD)
#undef FIELD
    slot slots[SLOT_COUNT];
    gemmux_cu_pointer workspace;
    size_t workspace_bytes;
    unsigned char *back; /* what came back of one buffer */
    size_t back_bytes;
    gemmux_plan *kept;
};

static gemmux_status fail(const gemmux_proof_device *d, int result, const char *what,
                          gemmux_error *error)
{
    gemmux_cuda_fail(&d->device.cuda, result, what, error);
    return result == GEMMUX_CU_OUT_OF_MEMORY ? GEMMUX_ERROR_MEMORY : GEMMUX_ERROR_DEVICE;
}

/* ---- memory ---- */

static allocation_properties properties_of(const gemmux_proof_device *d)
{
    return (allocation_properties){
        .type = PINNED,
        .location_type = ON_DEVICE,
        .location_id = d->device.ordinal,
    };
}

static void find_mapping(gemmux_proof_device *d)
{
    char reason[8];
    int supported = 0;
    void *library = gemmux_library_open(d->device.cuda.path, reason, sizeof reason);
    d->maps = library &&
              !d->device.cuda.device_attribute(&supported, HAS_MAPPING, d->device.device) &&
              supported;
#define FIND(symbol, field, parameters)                                                            \
    {                                                                                              \
        void *found = d->maps ? dlsym(library, symbol) : NULL;                                     \
        memcpy(&d->field, &found, sizeof found);                                                   \
        d->maps &= found != NULL;                                                                  \
    }
    MAPPING_FUNCTIONS(FIND)
#undef FIND
    const allocation_properties properties = properties_of(d);
    if (d->maps && (d->granularity(&d->grain, &properties, 0) || !d->grain)) {
        d->maps = false;
    }
}

static void unmap(const gemmux_proof_device *d, slot *s)
{
    if (s->base && d->maps) {
        d->unmap(s->base, s->bytes);
        d->give_back(s->base, s->bytes + d->grain);
    } else if (s->base) {
        d->device.cuda.memory_free(s->base);
    }
    *s = (slot){0};
}

static int map(const gemmux_proof_device *d, slot *s, size_t bytes)
{
    const allocation_properties properties = properties_of(d);
    const access_descriptor access = {ON_DEVICE, d->device.ordinal, READ_WRITE};
    unsigned long long handle;
    int result = d->reserve(&s->base, bytes + d->grain, 0, 0, 0);
    if (result) {
        s->base = 0;
        return result;
    }
    result = d->create(&handle, bytes, &properties, 0);
    if (!result) {
        result = d->map(s->base, bytes, 0, handle, 0);
        d->release(handle); /* the mapping keeps the memory */
    }
    if (result) {
        d->give_back(s->base, bytes + d->grain);
        s->base = 0;
        return result;
    }
    s->bytes = bytes;
    return d->set_access(s->base, bytes, &access, 1);
}

/* Room for `bytes` in slot `index`. */
static gemmux_status grow(gemmux_proof_device *d, int index, size_t bytes, gemmux_error *error)
{
    slot *s = &d->slots[index];
    size_t grain = d->maps ? d->grain : 4096;
    if (s->bytes >= bytes && s->base) {
        return GEMMUX_OK;
    }
    bytes = (bytes + grain - 1) / grain * grain;
    unmap(d, s);
    int result = 0;
    if (d->maps) {
        result = map(d, s, bytes);
    } else {
        result = d->device.cuda.memory_allocate(&s->base, bytes);
        s->bytes = bytes;
    }
    if (!result) {
        result = d->device.cuda.memory_set(s->base, PATTERN, s->bytes);
    }
    if (result) {
        unmap(d, s);
        return fail(d, result, "certify: device memory for a case", error);
    }
    return GEMMUX_OK;
}

/* Where the image of a guarded buffer starts: both end at their last mapped page. */
static gemmux_cu_pointer image_of(const gemmux_proof_device *d, int index, const gemmux_guarded *g)
{
    return d->slots[index].base + d->slots[index].bytes - g->usable;
}

/* ---- open and close ---- */

gemmux_status gemmux_proof_device_open(const gemmux_machine *machine, gemmux_proof_device **device,
                                       gemmux_error *error)
{
    *device = NULL;
    gemmux_proof_device *d = calloc(1, sizeof *d);
    if (!d) {
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "certify: out of memory");
    }
    gemmux_status status = gemmux_cuda_device_open(&d->device, gemmux_cuda_index(machine), error);
    if (!status) {
        status = gemmux_cuda_enter(&d->device, error);
    }
    if (status) {
        gemmux_cuda_device_close(&d->device);
        free(d);
        return status;
    }
    find_mapping(d);
    *device = d;
    return GEMMUX_OK;
}

void gemmux_proof_device_close(gemmux_proof_device *d)
{
    if (!d) {
        return;
    }
    gemmux_plan_free(d->kept);
    for (int i = 0; i < SLOT_COUNT; i++) {
        unmap(d, &d->slots[i]);
    }
    gemmux_cuda_leave(&d->device);
    gemmux_cuda_device_close(&d->device);
    free(d->back);
    free(d);
}

void gemmux_proof_device_keep(gemmux_proof_device *d, gemmux_plan *plan)
{
    gemmux_plan_free(d->kept);
    d->kept = plan;
}

/* ---- operands ---- */

static gemmux_status put(gemmux_proof_device *d, int index, const gemmux_guarded *g, void *out,
                         gemmux_error *error)
{
    if (!g->base) {
        return GEMMUX_OK;
    }
    gemmux_status status = grow(d, index, g->usable, error);
    if (status) {
        return status;
    }
    gemmux_cu_pointer at = image_of(d, index, g);
    int result = d->device.cuda.copy_to_device(at, g->base, g->usable);
    if (result) {
        return fail(d, result, "certify: copying an operand to the device", error);
    }
    uintptr_t data = (uintptr_t)(at + (size_t)(g->data - g->base));
    memcpy(out, &data, sizeof data);
    return GEMMUX_OK;
}

gemmux_status gemmux_proof_device_put(gemmux_proof_device *d, const gemmux_operands *o,
                                      gemmux_args *args, gemmux_error *error)
{
    *args = o->args;
    gemmux_status status = put(d, SLOT_X_CODES, &o->x.codes, &args->x.codes, error);
    if (!status && o->args.x.scales) {
        status = put(d, SLOT_X_SCALES, &o->x.scales, &args->x.scales, error);
    }
    if (!status && o->args.x.zeros) {
        status = put(d, SLOT_X_ZEROS, &o->x.zeros, &args->x.zeros, error);
    }
    if (!status && o->args.x.globals) {
        status = put(d, SLOT_X_GLOBALS, &o->x.globals, &args->x.globals, error);
    }
    if (!status) {
        status = put(d, SLOT_IDS, &o->ids, &args->expert_ids, error);
    }
    if (!status) {
        status = put(d, SLOT_WEIGHTS, &o->weights, &args->expert_weights, error);
    }
    return status ? status : put(d, SLOT_Y, &o->y, &args->y, error);
}

gemmux_status gemmux_proof_device_workspace(gemmux_proof_device *d, gemmux_resident *resident,
                                            int64_t bytes, gemmux_error *error)
{
    d->workspace = 0;
    if (bytes <= 0) {
        return GEMMUX_OK;
    }
    size_t align = 256; /* as the driver's own allocations */
    gemmux_status status = grow(d, SLOT_WORKSPACE, (size_t)bytes + align + FRONT, error);
    if (status) {
        return status;
    }
    const slot *s = &d->slots[SLOT_WORKSPACE];
    gemmux_cu_pointer end = s->base + s->bytes;
    d->workspace = end - ((size_t)bytes + align - 1) / align * align;
    d->workspace_bytes = (size_t)bytes;
    int result = d->device.cuda.memory_set(d->workspace - FRONT, PATTERN, FRONT);
    if (!result) {
        result = d->device.cuda.memory_set(d->workspace, 0, (size_t)bytes);
    }
    if (!result && d->workspace + (size_t)bytes < end) {
        result = d->device.cuda.memory_set(d->workspace + (size_t)bytes, PATTERN,
                                           (size_t)(end - d->workspace) - (size_t)bytes);
    }
    if (result) {
        return fail(d, result, "certify: clearing the workspace", error);
    }
    uintptr_t address = (uintptr_t)d->workspace;
    memcpy(&resident->workspace, &address, sizeof address);
    return GEMMUX_OK;
}

/* ---- what came of it ---- */

int gemmux_proof_device_wait(const gemmux_proof_device *d)
{
    return d->device.cuda.context_synchronize();
}

const char *gemmux_proof_device_text(const gemmux_proof_device *d, int result, char *buffer,
                                     size_t size)
{
    const char *name = NULL;
    const char *what = result == 715   ? "illegal instruction"
                       : result == 716 ? "misaligned address"
                       : result == 700 ? "illegal address"
                       : result == 710 ? "failed assertion"
                       : result == 702 ? "the driver's own time limit"
                       : result == 719 ? "launch failure, as by a trap"
                                       : "device error";
    if (d->device.cuda.error_name(result, &name)) {
        name = NULL;
    }
    snprintf(buffer, size, "%s (%s, %d)", what, name ? name : "CUDA", result);
    return buffer;
}

static gemmux_status fetch(gemmux_proof_device *d, gemmux_cu_pointer from, size_t bytes,
                           gemmux_error *error)
{
    if (d->back_bytes < bytes) {
        free(d->back);
        d->back_bytes = 0;
        d->back = malloc(bytes);
        if (!d->back) {
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "certify: out of memory");
        }
        d->back_bytes = bytes;
    }
    int result = d->device.cuda.copy_to_host(d->back, from, bytes);
    return result ? fail(d, result, "certify: copying from the device", error) : GEMMUX_OK;
}

/* Operands that a kernel only reads must come back as they were. */
static gemmux_status compare(gemmux_proof_device *d, int index, const gemmux_guarded *g,
                             const char *name, char *damage, size_t size, gemmux_error *error)
{
    if (!g->base || !d->slots[index].base || *damage) {
        return GEMMUX_OK;
    }
    gemmux_status status = fetch(d, image_of(d, index, g), g->usable, error);
    for (size_t i = 0; !status && i < g->usable && !*damage; i++) {
        if (d->back[i] != g->base[i]) {
            snprintf(damage, size, "wrote to %s: byte %td of %zu was 0x%02x, is 0x%02x", name,
                     (ptrdiff_t)i - (g->data - g->base), g->bytes, g->base[i], d->back[i]);
        }
    }
    return status;
}

static gemmux_status check_workspace(gemmux_proof_device *d, char *damage, size_t size,
                                     gemmux_error *error)
{
    const slot *s = &d->slots[SLOT_WORKSPACE];
    if (!d->workspace || *damage) {
        return GEMMUX_OK;
    }
    gemmux_status status = fetch(d, d->workspace - FRONT, FRONT, error);
    if (!status && !gemmux_guarded_whole(d->back, FRONT)) {
        snprintf(damage, size, "wrote in front of its workspace");
    }
    gemmux_cu_pointer end = d->workspace + d->workspace_bytes;
    size_t behind = (size_t)(s->base + s->bytes - end);
    if (!status && behind) {
        status = fetch(d, end, behind, error);
        if (!status && !gemmux_guarded_whole(d->back, behind)) {
            snprintf(damage, size, "wrote past the %zu bytes of its workspace", d->workspace_bytes);
        }
    }
    return status;
}

gemmux_status gemmux_proof_device_get(gemmux_proof_device *d, const gemmux_operands *o,
                                      char *damage, size_t size, gemmux_error *error)
{
    *damage = 0;
    int result = d->device.cuda.copy_to_host(o->y.base, image_of(d, SLOT_Y, &o->y), o->y.usable);
    if (result) {
        return fail(d, result, "certify: copying y from the device", error);
    }
    gemmux_status status = check_workspace(d, damage, size, error);
    if (!status) {
        status = compare(d, SLOT_X_CODES, &o->x.codes, "x", damage, size, error);
    }
    if (!status && o->args.x.scales) {
        status = compare(d, SLOT_X_SCALES, &o->x.scales, "the scales of x", damage, size, error);
    }
    if (!status) {
        status = compare(d, SLOT_IDS, &o->ids, "expert_ids", damage, size, error);
    }
    if (!status) {
        status = compare(d, SLOT_WEIGHTS, &o->weights, "expert_weights", damage, size, error);
    }
    return status;
}
