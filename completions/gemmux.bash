# SPDX-License-Identifier: Apache-2.0
# Completion of gemmux(1) for bash.
_gemmux()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local commands="probe kernels select plan run check bench doctor"
    local formats="f32 f16 bf16 e4m3 e4m3:row e4m3:block128 e5m2 mxfp8 mxfp4 nvfp4 int8
                   int8:tensor int4 int4:g32 int4:g64 int4:row nf4"
    local policy="--device --only --deny --allow --max-memory --max-slowdown
                  --deterministic --json"
    local command=${COMP_WORDS[1]}
    COMPREPLY=()
    compopt +o default 2>/dev/null

    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "$commands --help --version" -- "$word"))
        return
    fi
    case $before in
    --x | --w | --y)
        # a colon separates words for readline
        COMPREPLY=($(compgen -W "$formats" -- "$word"))
        type __ltrim_colon_completions >/dev/null 2>&1 && __ltrim_colon_completions "$word"
        return
        ;;
    --allow)
        COMPREPLY=($(compgen -W "tf32 quantised-x rounded-w rounded-x narrow-sums unordered-sums
                                 flush-subnormals all none" -- "$word"))
        return
        ;;
    --epilogue)
        COMPREPLY=($(compgen -W "bias swiglu gather scatter" -- "$word"))
        return
        ;;
    --dtype)
        COMPREPLY=($(compgen -W "auto f32 f16 bf16" -- "$word"))
        return
        ;;
    --save)
        compopt -o default 2>/dev/null
        return
        ;;
    --device)
        COMPREPLY=($(compgen -W "cpu cuda:0" -- "$word") $(compgen -f -X '!*.txt' -- "$word"))
        return
        ;;
    esac
    case $word in
    -*)
        case $command in
        select) COMPREPLY=($(compgen -W "--m --n --k --x --w --y --experts --top-k --epilogue
                                         --align --why-not --what-if $policy" -- "$word")) ;;
        plan) COMPREPLY=($(compgen -W "--batch --context --chunk --no-cache --dtype --load-in-4bit
                                       --tp --save --html $policy" -- "$word")) ;;
        probe) COMPREPLY=($(compgen -W "--device --lost --measure --json" -- "$word")) ;;
        doctor) COMPREPLY=($(compgen -W "--device --json" -- "$word")) ;;
        run) COMPREPLY=($(compgen -W "--m --x --w --y --limit --threads --timeout $policy" -- "$word")) ;;
        check) COMPREPLY=($(compgen -W "--device --again --timeout --json" -- "$word")) ;;
        bench) COMPREPLY=($(compgen -W "--m --n --k --x --w --y --experts --top-k --epilogue
                                        --threads --timeout --overhead --learn --grid
                                        --seconds --skip --plot $policy" -- "$word")) ;;
        *) COMPREPLY=($(compgen -W "--json" -- "$word")) ;;
        esac
        ;;
    *)
        case $command in
        select) COMPREPLY=($(compgen -W "matmul linear moe" -- "$word")) ;;
        plan) [ "$COMP_CWORD" -eq 2 ] && COMPREPLY=($(compgen -W "diff" -- "$word"))
              compopt -o default 2>/dev/null ;;
        run | doctor | probe) compopt -o default 2>/dev/null ;;
        esac
        ;;
    esac
}
complete -F _gemmux gemmux
