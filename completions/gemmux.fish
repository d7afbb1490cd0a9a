# SPDX-License-Identifier: Apache-2.0
# Completion of gemmux(1) for fish.
set -l commands probe kernels select plan run check bench doctor
set -l formats f32 f16 bf16 e4m3 e4m3:row e4m3:block128 e5m2 mxfp8 mxfp4 nvfp4 int8 int8:tensor \
    int4 int4:g32 int4:g64 int4:row nf4
set -l routing "__fish_seen_subcommand_from select plan run check bench"
set -l devices "__fish_seen_subcommand_from select plan run check bench doctor probe"

complete -c gemmux -f
complete -c gemmux -n "not __fish_seen_subcommand_from $commands" -a probe -d "devices, instruction sets and libraries"
complete -c gemmux -n "not __fish_seen_subcommand_from $commands" -a kernels -d "the table of kernels"
complete -c gemmux -n "not __fish_seen_subcommand_from $commands" -a select -d "choose a kernel and say why"
complete -c gemmux -n "not __fish_seen_subcommand_from $commands" -a plan -d "plan a whole model for devices that need not be here"
complete -c gemmux -n "not __fish_seen_subcommand_from $commands" -a run -d "route, prepare, verify and time a model"
complete -c gemmux -n "not __fish_seen_subcommand_from $commands" -a check -d "certify kernels on this machine"
complete -c gemmux -n "not __fish_seen_subcommand_from $commands" -a bench -d "time candidates against each other"
complete -c gemmux -n "not __fish_seen_subcommand_from $commands" -a doctor -d "find the real cause in an error log"

complete -c gemmux -n "__fish_seen_subcommand_from select; and not __fish_seen_subcommand_from matmul linear moe" -a "matmul linear moe"
complete -c gemmux -n "__fish_seen_subcommand_from plan run doctor probe" -F
complete -c gemmux -n "__fish_seen_subcommand_from probe" -l lost -d "kernels that the device cannot run"
for size in m n k experts top-k
    complete -c gemmux -n "__fish_seen_subcommand_from select bench" -l $size -x
end
for operand in x w y
    complete -c gemmux -n "__fish_seen_subcommand_from select bench" -l $operand -x -a "$formats"
end
complete -c gemmux -n "__fish_seen_subcommand_from select" -l epilogue -x -a "bias swiglu gather scatter"
complete -c gemmux -n "__fish_seen_subcommand_from select" -l why-not -x -d "why not this kernel"
complete -c gemmux -n "__fish_seen_subcommand_from select" -l align -x -d "of x and y and their rows"
complete -c gemmux -n "__fish_seen_subcommand_from select" -l what-if -x -d "as if these facts were so"
complete -c gemmux -n "$devices" -l device -r -d "decide for this device"
complete -c gemmux -n "$routing" -l only -x -d "only these kernels"
complete -c gemmux -n "$routing" -l deny -x -d "not these kernels"
complete -c gemmux -n "$routing" -l allow -x -a "tf32 quantised-x rounded-w rounded-x narrow-sums unordered-sums flush-subnormals all none"
complete -c gemmux -n "$routing" -l max-memory -x -d "limit packed weights and workspace"
complete -c gemmux -n "$routing" -l max-slowdown -x -d "against the best kernel for this device"
complete -c gemmux -n "$routing" -l deterministic -d "same bits in every run"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -l batch -x -d "sequences at once"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -l context -x -d "tokens a sequence reaches"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -l chunk -x -d "tokens that prefill multiplies at once"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -l no-cache -d "every step runs whole sequences"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -l dtype -x -a "auto f32 f16 bf16"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -l load-in-4bit -d "float weights become nf4"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -l tp -x -d "devices that share every layer"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -l save -r -d "write the plan as JSON"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -l html -r -d "write the plan as one page"
complete -c gemmux -n "__fish_seen_subcommand_from plan" -a diff -d "compare two saved plans"
complete -c gemmux -n "__fish_seen_subcommand_from run" -l limit -x -d "only the first products"
complete -c gemmux -n "__fish_seen_subcommand_from run bench" -l threads -x -d "threads of CPU kernels"
complete -c gemmux -n "__fish_seen_subcommand_from run check bench" -l timeout -x -d "seconds to certify a kernel"
complete -c gemmux -n "__fish_seen_subcommand_from check" -l again -d "even where a certificate exists"
complete -c gemmux -n "__fish_seen_subcommand_from bench" -l overhead -d "time gemmux itself"
complete -c gemmux -n "__fish_seen_subcommand_from bench" -l learn -d "keep the times"
complete -c gemmux -n "__fish_seen_subcommand_from bench" -l grid -d "how often is the chosen kernel the fastest?"
complete -c gemmux -n "__fish_seen_subcommand_from bench" -l seconds -x -d "end after so long"
complete -c gemmux -n "__fish_seen_subcommand_from bench" -l skip -x -d "begin at the Nth of the formats and sizes"
complete -c gemmux -n "__fish_seen_subcommand_from bench" -l plot -r -d "draw the roofline"
complete -c gemmux -n "__fish_seen_subcommand_from probe" -l measure -d "measure bandwidth and peak rates"
complete -c gemmux -l json -d "one JSON document"
