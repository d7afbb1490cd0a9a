# SPDX-License-Identifier: Apache-2.0
# Device code. Each src/kernels/*.cu becomes one compressed fatbin inside the library; nothing is
# compiled at run time and nothing of CUDA is linked. Without nvcc the library is built all the
# same, and the descriptors of these kernels say "not built here".
#
#   GEMMUX_CUDA        AUTO (default): with nvcc if it is found; ON: fail without it; OFF
#   GEMMUX_CUDA_ARCHS  targets, by default all. A plain number gives machine code for that chip, a
#                      or f behind it code for exactly that chip or for its family. compute_80 PTX
#                      for chips of tomorrow is always added.
get_filename_component(GEMMUX_CUDA_ROOT ${CMAKE_CURRENT_LIST_DIR}/.. ABSOLUTE)
set(GEMMUX_CUDA AUTO CACHE STRING "GPU kernels: AUTO, ON or OFF")
set(GEMMUX_CUDA_ARCHS "80;86;89;90a;100f;110f;120f" CACHE STRING "Targets of the GPU kernels")
set_property(CACHE GEMMUX_CUDA PROPERTY STRINGS AUTO ON OFF)

# gemmux_cuda_kernels(OUT_C OUT_BUILT FILE.cu ...): OUT_C is a generated C file with the images,
# OUT_BUILT 1 where they hold code.
function(gemmux_cuda_kernels out_c out_built)
    set(images "")
    set(blobs "")
    set(fatbins "")
    set(built 0)
    if(NOT GEMMUX_CUDA STREQUAL "OFF")
        find_program(GEMMUX_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH
                     PATHS /usr/local/cuda PATH_SUFFIXES bin)
        if(GEMMUX_NVCC)
            set(built 1)
        elseif(GEMMUX_CUDA STREQUAL "ON")
            message(FATAL_ERROR "GEMMUX_CUDA is ON, but nvcc was not found; set GEMMUX_NVCC")
        endif()
    endif()
    if(built)
        file(GLOB shared CONFIGURE_DEPENDS ${GEMMUX_CUDA_ROOT}/src/kernels/*.cuh
             ${GEMMUX_CUDA_ROOT}/src/kernels/cuda_*.h ${GEMMUX_CUDA_ROOT}/include/gemmux.h)
        foreach(file ${ARGN})
            get_filename_component(name ${file} NAME_WE)
            set(targets "")
            set(headers ${shared})
            if(NOT name MATCHES "_sm90") # what only sm_90a includes need not rebuild the others
                list(FILTER headers EXCLUDE REGEX "/cuda_sm90[a-z0-9_]*\\.c?u?h$")
            endif()
            if(name MATCHES "_sm90")
                set(targets "-gencode=arch=compute_90a,code=sm_90a")
            elseif(name MATCHES "_sm80")
                # Instructions of sm_80 and no others: one front-end pass gives the PTX of which all
                # targets are made. Plain ones, which run on every chip of their generation. 9.0 has
                # a pass of its own: launches overlap there (cuda_ptx.cuh).
                string(REGEX REPLACE "[af]" "" plain "${GEMMUX_CUDA_ARCHS}")
                if("90" IN_LIST plain)
                    list(REMOVE_ITEM plain 90)
                    set(targets "-gencode=arch=compute_90,code=sm_90")
                endif()
                list(TRANSFORM plain PREPEND sm_)
                list(APPEND plain compute_80)
                list(JOIN plain "," plain)
                list(APPEND targets "-gencode=arch=compute_80,code=[${plain}]")
            else()
                # Always -gencode: the -arch=sm_120a shorthand adds a pass that rejects such code.
                foreach(arch ${GEMMUX_CUDA_ARCHS})
                    list(APPEND targets "-gencode=arch=compute_${arch},code=sm_${arch}")
                endforeach()
                list(APPEND targets "-gencode=arch=compute_80,code=compute_80")
            endif()
            set(fatbin ${CMAKE_BINARY_DIR}/cuda/${name}.fatbin)
            add_custom_command(
                OUTPUT ${fatbin}
                COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/cuda
                COMMAND sh ${GEMMUX_CUDA_ROOT}/cmake/fatbin.sh ${GEMMUX_NVCC} ${fatbin} ${file}
                        -std=c++17 -O3 --threads 2 -compress-mode=size ${targets}
                        -I${GEMMUX_CUDA_ROOT}/include -I${GEMMUX_CUDA_ROOT}/src/kernels -- ${headers}
                DEPENDS ${file} ${headers} ${GEMMUX_CUDA_ROOT}/cmake/fatbin.sh
                COMMENT "Device code of ${name}"
                VERBATIM)
            list(APPEND fatbins ${fatbin})
            string(APPEND blobs "    \".balign 16\\n\"\n"
                   "    \"gemmux_image_${name}: .incbin \\\"${fatbin}\\\"\\n\"\n"
                   "    \"gemmux_image_${name}_end: .byte 0\\n\"\n")
            string(APPEND externs "extern const unsigned char gemmux_image_${name}[]"
                   " __attribute__((visibility(\"hidden\")));\n"
                   "extern const unsigned char gemmux_image_${name}_end[]"
                   " __attribute__((visibility(\"hidden\")));\n")
            string(APPEND globals "    \".globl gemmux_image_${name}, gemmux_image_${name}_end\\n\"\n"
                   "    \".hidden gemmux_image_${name}, gemmux_image_${name}_end\\n\"\n")
            string(APPEND images "    {\"${name}\", gemmux_image_${name}, gemmux_image_${name}_end},\n")
        endforeach()
        message(NOTICE "GPU kernels: ${GEMMUX_NVCC} for ${GEMMUX_CUDA_ARCHS}")
    else()
        set(why "no nvcc was found; GEMMUX_NVCC names one elsewhere")
        if(GEMMUX_CUDA STREQUAL "OFF")
            set(why "GEMMUX_CUDA is OFF")
        endif()
        message(NOTICE "GPU kernels: not built here: ${why}")
    endif()
    set(assembly "")
    if(blobs)
        set(assembly "__asm__(\n    \".pushsection .rodata\\n\"\n${globals}${blobs}    \".popsection\\n\");\n")
    endif()
    set(generated ${CMAKE_BINARY_DIR}/cuda_images.c)
    file(CONFIGURE OUTPUT ${generated} @ONLY CONTENT
"/* Generated by cmake/CudaKernels.cmake. */
#include \"driver/libcuda.h\"

${assembly}
${externs}
const gemmux_cuda_image gemmux_cuda_images[] = {
${images}    {0, 0, 0},
};
")
    set_source_files_properties(${generated} PROPERTIES OBJECT_DEPENDS "${fatbins}")
    set(${out_c} ${generated} PARENT_SCOPE)
    set(${out_built} ${built} PARENT_SCOPE)
endfunction()
