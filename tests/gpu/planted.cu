// SPDX-License-Identifier: Apache-2.0
//
// What a faulty kernel may do, for gpu_certify.c.
struct planted_parameters {
    unsigned char *at;
};

extern "C" __global__ void planted_nothing(__grid_constant__ const planted_parameters)
{
}

extern "C" __global__ void planted_trap(__grid_constant__ const planted_parameters)
{
    __trap();
}

// Its machine code is overwritten before it is loaded.
extern "C" __global__ void planted_illegal(__grid_constant__ const planted_parameters p)
{
    *p.at = 42;
}

extern "C" __global__ void planted_hang(__grid_constant__ const planted_parameters p)
{
    volatile unsigned char *at = p.at;
    while (*at != 42)
        ;
}

extern "C" __global__ void planted_write(__grid_constant__ const planted_parameters p)
{
    *p.at = 42;
}
