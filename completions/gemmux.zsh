#compdef gemmux
# SPDX-License-Identifier: Apache-2.0
# Completion of gemmux(1) for zsh.

_gemmux() {
    local -a formats policy problem
    formats=(f32 f16 bf16 e4m3 'e4m3\:row' 'e4m3\:block128' e5m2 mxfp8 mxfp4 nvfp4 int8
        'int8\:tensor' int4 'int4\:g32' 'int4\:g64' 'int4\:row' nf4)
    policy=(
        '--device[decide for this device]:device:_files -g "*.txt"'
        '--only[only these kernels]:glob:'
        '--deny[not these kernels]:glob:'
        '*--allow[allow a liberty]:liberty:(tf32 quantised-x rounded-w rounded-x narrow-sums unordered-sums flush-subnormals all none)'
        '--max-memory[limit packed weights and workspace]:bytes:'
        '--max-slowdown[against the best kernel for this device]:factor:'
        '--deterministic[same bits in every run]'
        '--json[one JSON document]'
    )
    problem=(
        '--m[rows]:M:' '--n[columns]:N:' '--k[inner size]:K:'
        "--x[format of activations]:format:($formats)"
        "--w[format of weights]:format:($formats)"
        "--y[format of the result]:format:($formats)"
        '--experts[experts]:E:' '--top-k[experts a token]:T:'
        '--epilogue[around the product]:list:_values -s , epilogue bias swiglu gather scatter'
        '--why-not[why not this kernel]:kernel:'
        '--align[of x and y and their rows]:bytes:'
        '*--what-if[as if these facts were so]:fact=value,...:'
    )
    local -a clock=(
        '--threads[threads of CPU kernels]:N:'
        '--timeout[seconds to certify a kernel]:seconds:'
    )
    if ((CURRENT == 2)); then
        local -a commands
        commands=(
            'probe:devices, instruction sets and libraries'
            'kernels:the table of kernels'
            'select:choose a kernel and say why'
            'plan:plan a whole model for devices that need not be here'
            'run:route, prepare, verify and time a model'
            'check:certify kernels on this machine'
            'bench:time candidates against each other'
            'doctor:find the real cause in an error log'
        )
        _describe command commands
        return
    fi
    case $words[2] in
        select) _arguments '2:op:(matmul linear moe)' $problem $policy ;;
        plan) _arguments '2:model or diff:_files' '*:plan:_files' '--batch[sequences at once]:N:' '--context[tokens a sequence reaches]:N:' '--chunk[tokens that prefill multiplies at once]:N:' '--no-cache[every step runs whole sequences]' '--dtype[what weights are loaded as]:type:(auto f32 f16 bf16)' '--load-in-4bit[float weights become nf4]' '--tp[devices that share every layer]:N:' '--save[write the plan as JSON]:file:_files' '--html[write the plan as one page]:file:_files' $policy ;;
        run) _arguments '2:model:_files' '--limit[only the first products]:N:' $problem $clock $policy ;;
        check) _arguments '*:kernel:' '--again[even where a certificate exists]' $clock $policy ;;
        bench) _arguments '--overhead[time gemmux itself]' '--learn[keep the times]' \
            '--grid[how often is the chosen kernel the fastest?]' '--seconds[end after]:S:' '--skip[begin at]:N:' \
            '--plot[draw the roofline]:file:_files' $problem $clock $policy ;;
        doctor) _arguments '2:log:_files' '--device[weigh the facts of this device]:device:_files -g "*.txt"' '--json[one JSON document]' ;;
        probe) _arguments '2:file:_files' '--device[what runs on this device]:device:_files -g "*.txt"' '--lost[kernels that the device cannot run]' '--measure[measure bandwidth and peak rates]' '--json[one JSON document]' ;;
        kernels) _arguments '--json[one JSON document]' ;;
    esac
}

_gemmux "$@"
