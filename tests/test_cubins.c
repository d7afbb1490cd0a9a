/* SPDX-License-Identifier: Apache-2.0
 *
 * The device code that this build carries, without a GPU and without a disassembler: every image
 * of every target is unpacked, and the opcodes of each kernel's machine code are counted. A kernel
 * that fell back from the matrix units to plain arithmetic, one that an older GPU of its contract
 * could not run, and one that needs more shared memory than it may, show here. Opcodes are the low
 * 12 bits of an instruction of 16 bytes; the numbers were found with nvdisasm 13.0.
 */
#include "kernels/cuda_sm80_upcast.h"
#include "testing.h"

#include "driver/libcuda.h"
#include "kernel.h"
#include "probe/unpack.h"

#include <elf.h>

/* Instructions of the matrix units. */
#define MATRIX(X)                                                                                  \
    X(HMMA, 0x23c)                                                                                 \
    X(IMMA, 0x237)                                                                                 \
    X(QMMA, 0x27a)                                                                                 \
    X(QMMA_SF, 0x47a)                                                                              \
    X(OMMA_SF, 0x47f)                                                                              \
    X(HGMMA_SS, 0x9f0)                                                                             \
    X(HGMMA_RS, 0xdf0)                                                                             \
    X(IGMMA_SS, 0x9f1)                                                                             \
    X(QGMMA_SS, 0x9f3)                                                                             \
    X(QGMMA_RS, 0xdf3)

enum {
#define INDEX(name, opcode) name,
    MATRIX(INDEX)
#undef INDEX
        KINDS
};
static const uint16_t opcodes[] = {
#define OPCODE(name, opcode) opcode,
    MATRIX(OPCODE)
#undef OPCODE
};
static const char *const names[] = {
#define NAME(name, opcode) #name,
    MATRIX(NAME)
#undef NAME
};

enum { KIB = 1024, SMEM_EVERYWHERE = 99 * KIB };
#define AMPERE (1u << HMMA | 1u << IMMA)
#define HOPPER (1u << HGMMA_SS | 1u << HGMMA_RS | 1u << IGMMA_SS | 1u << QGMMA_SS | 1u << QGMMA_RS)

/* griddepcontrol.wait: what lets a launch overlap earlier ones. A launch of cuda_sm80_upcast is
 * asked to wherever its code was compiled from PTX of 9.0, so every one of its kernels must have
 * it in such code, and none in other code, which runs on chips without it. */
enum { ACQBULK = 0x82e };

/* What kernels of one image must and may contain; the first row that fits an image and a kernel
 * counts. A kernel that no row names may contain what its image's prefix allows. */
typedef struct rule {
    const char *image, *kernel; /* beginnings of names */
    uint32_t need;              /* at least one of these kinds; 0: none needed */
} rule;

static const rule rules[] = {
    {"cuda_sm80_upcast", "upcast_route", 0},
    {"cuda_sm80_upcast", "upcast_scatter", 0},
    {"cuda_sm80_upcast", "upcast_gather", 0},
    {"cuda_sm80_upcast", "upcast_", 1u << HMMA},
    {"cuda_sm90_upcast", "sm90_route", 0},
    {"cuda_sm90_upcast", "sm90_scatter", 0},
    {"cuda_sm90_upcast", "sm90_arrange", 0},
    {"cuda_sm90_upcast", "sm90_", 1u << HGMMA_RS},
    {"cuda_sm90_fp8", "fp8_along_", 1u << QGMMA_SS},
    {"cuda_sm90_fp8", "fp8_whole_", 1u << QGMMA_SS},
};

/* One image of one target. */
typedef struct image {
    const char *name; /* of the .cu file */
    const gemmux_gpu_code *code;
    const uint8_t *bytes;
    size_t size;
    int kernels, matrix_kernels;
} image;

static uint32_t allowed(const char *name)
{
    return !strncmp(name, "cuda_sm80_", 10)   ? AMPERE
           : !strncmp(name, "cuda_sm90_", 10) ? AMPERE | HOPPER
                                              : ~0u;
}

static const rule *rule_of(const char *name, const char *kernel)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (!strncmp(name, rules[i].image, strlen(rules[i].image)) &&
            !strncmp(kernel, rules[i].kernel, strlen(rules[i].kernel)))
            return &rules[i];
    return NULL;
}

static void count_opcodes(const uint8_t *code, size_t bytes, int counts[KINDS])
{
    memset(counts, 0, KINDS * sizeof counts[0]);
    for (size_t at = 0; at + 16 <= bytes; at += 16) {
        int opcode = (code[at] | code[at + 1] << 8) & 0xfff;
        for (int i = 0; i < KINDS; i++)
            counts[i] += opcode == opcodes[i];
    }
}

static void check_waits(const image *im, const char *kernel, const uint8_t *code, size_t bytes)
{
    bool waits = false, must = im->code->cc == 90;
    if (strcmp(im->name, "cuda_sm80_upcast") != 0)
        return;
    for (size_t at = 0; at + 16 <= bytes; at += 16)
        waits |= ((code[at] | code[at + 1] << 8) & 0xfff) == ACQBULK;
    if (waits != must)
        fail_msg("%s for sm_%d: %s %s for earlier launches", im->name, im->code->cc, kernel,
                 waits ? "waits" : "does not wait");
}

static void check_code(image *im, const char *kernel, const uint8_t *code, size_t bytes)
{
    int counts[KINDS];
    uint32_t found = 0;
    count_opcodes(code, bytes, counts);
    for (int i = 0; i < KINDS; i++)
        found |= counts[i] ? 1u << i : 0;
    const rule *r = rule_of(im->name, kernel);
    im->kernels++;
    im->matrix_kernels += found != 0;
    if (r && r->need && !(found & r->need))
        fail_msg("%s for sm_%d: %s has none of the matrix instructions that it is made of",
                 im->name, im->code->cc, kernel);
    for (int i = 0; i < KINDS; i++)
        if (counts[i] && !(allowed(im->name) >> i & 1))
            fail_msg("%s for sm_%d: %s has %d %s, which is newer than its contract", im->name,
                     im->code->cc, kernel, counts[i], names[i]);
}

/* Of the descriptor beside the image: what its launches ask for beyond the static part. */
static int64_t dynamic_smem(const char *name)
{
    gemmux_machine machine = {.kernels = NULL};
    if (!strcmp(name, "cuda_sm80_upcast")) /* its descriptor says what its smallest tiles need */
        return GEMMUX_UPCAST_STREAM_SMEM;
    const gemmux_kernel *kernel = gemmux_kernel_find(&machine, name);
    return kernel ? kernel->smem_bytes : 0;
}

static void check_cubin(image *im)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)(const void *)im->bytes;
    assert_true(im->size > sizeof *header);
    assert_memory_equal(header->e_ident, ELFMAG, SELFMAG);
    assert_int_equal(header->e_machine, 190); /* EM_CUDA */
    assert_true(header->e_shoff + header->e_shnum * sizeof(Elf64_Shdr) <= im->size);
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(const void *)(im->bytes + header->e_shoff);
    const char *strings = (const char *)im->bytes + sections[header->e_shstrndx].sh_offset;
    for (int i = 0; i < header->e_shnum; i++) {
        const char *name = strings + sections[i].sh_name;
        if (!strncmp(name, ".text.", 6)) {
            assert_true(sections[i].sh_offset + sections[i].sh_size <= im->size);
            check_code(im, name + 6, im->bytes + sections[i].sh_offset, sections[i].sh_size);
            check_waits(im, name + 6, im->bytes + sections[i].sh_offset, sections[i].sh_size);
        }
        if (strncmp(name, ".nv.shared.", 11) != 0 || strncmp(im->name, "cuda_sm80_", 10) != 0)
            continue;
        /* Only the products themselves are launched with a dynamic part. */
        const rule *r = rule_of(im->name, name + 11);
        int64_t smem = (int64_t)sections[i].sh_size + (r && r->need ? dynamic_smem(im->name) : 0);
        if (smem > SMEM_EVERYWHERE)
            fail_msg("%s for sm_%d: %s needs %lld bytes of shared memory, more than 99 KiB",
                     im->name, im->code->cc, name + 11, (long long)smem);
    }
    assert_true(im->kernels > 0);
    if (!strncmp(im->name, "cuda_sm90_", 10))
        assert_true(im->matrix_kernels > 0);
}

/* ptxas rejects what is newer than the target that the text names. */
static void check_ptx(const image *im)
{
    const char *text = (const char *)im->bytes;
    const char *target = strstr(text, ".target sm_");
    assert_non_null(target);
    assert_int_equal(strtol(target + 11, NULL, 10), im->code->cc);
    if (!strncmp(im->name, "cuda_sm80_", 10)) {
        assert_int_equal(im->code->cc, 80);
        assert_null(strstr(text, "wgmma"));
        assert_null(strstr(text, "tcgen05"));
        assert_null(strstr(text, "cp.async.bulk"));
    }
}

static void check_image(const gemmux_unpacker *unpacker, const gemmux_cuda_image *held, int *cubins,
                        int *ptx)
{
    gemmux_bytes bytes = {.memory = held->data, .fd = -1, .size = held->end - held->data};
    gemmux_fatbin_walk walk;
    gemmux_status status = GEMMUX_OK;
    gemmux_error error;
    assert_int_equal(gemmux_fatbin_open(&walk, &bytes, &error), GEMMUX_OK);
    while (gemmux_fatbin_next(&walk, &status, &error))
        for (int64_t at = walk.begin; at >= 0 && at < walk.end;) {
            gemmux_fatbin_entry entry;
            int64_t next = gemmux_fatbin_entry_at(&walk, at, &entry);
            size_t size = 0;
            assert_true(next > at);
            uint8_t *unpacked = gemmux_unpack_image(unpacker, &bytes, &entry, &size);
            if (!unpacked)
                fail_msg("%s: an image cannot be unpacked", held->name);
            image im = {held->name, &entry.code, unpacked, size, 0, 0};
            bool machine_code = entry.code.kind == GEMMUX_GPU_SASS;
            if (machine_code)
                check_cubin(&im);
            else
                check_ptx(&im);
            if (machine_code && !strncmp(held->name, "cuda_sm80_", 10) && entry.code.suffix)
                fail_msg("%s: code for sm_%d%c, but it must run on all of a generation", held->name,
                         entry.code.cc, entry.code.suffix);
            printf("%s %s %d%c: %d kernels, %d with matrix instructions\n", held->name,
                   machine_code ? "sm" : "compute", entry.code.cc,
                   entry.code.suffix ? entry.code.suffix : ' ', im.kernels, im.matrix_kernels);
            *(machine_code ? cubins : ptx) += 1;
            free(unpacked);
            at = next;
        }
    assert_int_equal(status, GEMMUX_OK);
    gemmux_fatbin_close(&walk);
}

static void test_images(void **state)
{
    (void)state;
    gemmux_unpacker unpacker;
    if (!gemmux_cuda_images[0].name) {
        print_message("no device code in this build: there was no nvcc, or it was not wanted\n");
        skip();
    }
    gemmux_unpacker_open(&unpacker);
    if (!unpacker.decompress) {
        print_message("no libzstd.so.1: the images cannot be unpacked\n");
        gemmux_unpacker_close(&unpacker);
        skip();
    }
    for (const gemmux_cuda_image *held = gemmux_cuda_images; held->name; held++) {
        int cubins = 0, ptx = 0;
        check_image(&unpacker, held, &cubins, &ptx);
        assert_true(cubins > 0);
        if (!strncmp(held->name, "cuda_sm80_", 10))
            assert_int_equal(ptx, 1); /* for chips of tomorrow */
    }
    gemmux_unpacker_close(&unpacker);
}

/* The counter itself: three instructions, two of them HMMA. */
static void test_counting(void **state)
{
    (void)state;
    static const uint8_t code[48] = {[0] = 0x3c, [1] = 0x72, [16] = 0x3c, [17] = 0x12, [32] = 0x3d};
    int counts[KINDS];
    count_opcodes(code, sizeof code, counts);
    assert_int_equal(counts[HMMA], 2);
    for (int i = 1; i < KINDS; i++)
        assert_int_equal(counts[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counting),
        cmocka_unit_test(test_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
