# SPDX-License-Identifier: Apache-2.0
# gemmux plan --html: one page that needs nothing else, in a browser without a network, at the width
# of a phone and of a desk. Exits with 77 (skipped) after what can be looked at without a browser.
. ./lib.sh

page=$work/plan.html
run 0 plan gpt-oss-20b --device rtx-5090,zen4,avx2-laptop --html "$page"
silent
grep -qiE 'https?://|src=|<link|@import|url\(|fetch\(|XMLHttp|integrity' "$page" && fail "the page refers to something else"
sed -n 's/.*<script type="application\/json" id="plan">\(.*\)<\/script>.*/\1/p' "$page" >"$work/out"
json model.name gpt-oss-20b
json devices.# 3
json devices.0.layers.2.decode.verdicts.#
json reasons.0.text
json kernels.0
run 1 plan gpt-oss-20b --device zen4 --html "$work/none/plan.html"
grep -q "none/plan.html: No such file" "$work/err" || fail "no reason: $(cat "$work/err")"

# What a path can do to a page: nothing.
evil="$work/<"'!--<script>x<'
mkdir -p "$evil/script><img src=x onerror=document.title='evil'>"
cp ../fixtures/checkpoints/*/config.json "$evil/script><img src=x onerror=document.title='evil'>/" 2>/dev/null ||
    printf '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
"intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
"vocab_size": 100, "torch_dtype": "bfloat16"}\n' >"$evil/script><img src=x onerror=document.title='evil'>/config.json"
run 0 plan "$evil/script><img src=x onerror=document.title='evil'>" --device zen4 --html "$work/evil.html"

browser=
for name in chromium chromium-browser google-chrome; do
    command -v $name >/dev/null && browser=$name && break
done
if [ -z "$browser" ]; then
    finish
    echo "SKIP: no chromium here; the page was not opened" >&2
    exit 77
fi

# dom WIDTH HEIGHT FILE#HASH: the page after its script ran, in $work/dom
dom() {
    timeout 120 $browser --headless --no-sandbox --disable-gpu --hide-scrollbars \
        --user-data-dir="$work/profile" --host-resolver-rules="MAP * ~NOTFOUND" \
        --window-size=$1,$2 --virtual-time-budget=10000 --dump-dom "file://$3" >"$work/dom" 2>"$work/err"
    [ -s "$work/dom" ] || fail "no page from $browser: $(tail -3 "$work/err")"
}
in_dom() {
    for word; do
        grep -qF -- "$word" "$work/dom" || fail "no '$word' in the page: $(tail -c 600 "$work/dom")"
    done
}

# A visitor: clicks, switches, filters, and measures. Its notes become the page's last element.
visitor() {
    cat "$page"
    cat <<'SCRIPT'
<pre id="notes"></pre>
<script>
const notes = [], note = (what, value) => notes.push(what + "=" + value);
window.onerror = m => note("error", m);
const cells = document.querySelectorAll("[data-cell]"), dialog = document.getElementById("detail");
note("cells", cells.length);
note("rows", document.querySelectorAll("#body tr").length);
note("sideways", document.documentElement.scrollWidth > innerWidth);
note("open", dialog.open);
const wait = () => new Promise(done => setTimeout(done, 50));
/* The page follows its address and its dialog's end by events, which a busy machine brings late. */
const until = async ready => { for (let i = 0; i < 40 && !ready(); i++) await wait(); };
let followed = 0;
window.addEventListener("hashchange", () => followed++); /* after the page's own */
(async () => {
    cells[0].click(); await until(() => followed === 1);
    note("clicked", dialog.open + " " + document.getElementById("detail-title").textContent);
    note("verdicts", dialog.querySelectorAll(".verdict").length + " of " + plan.kernels.length);
    note("reasons", dialog.querySelectorAll(".verdict li").length > 0);
    note("within", dialog.getBoundingClientRect().right <= innerWidth + 1 && dialog.scrollWidth <= dialog.clientWidth);
    dialog.querySelector("[data-phase=prefill]").click(); await until(() => followed === 2);
    note("phase", location.hash.endsWith("prefill") && dialog.open);
    document.getElementById("close").click(); await until(() => !location.hash);
    note("closed", !dialog.open);
    document.querySelector("[data-device]").click(); await until(() => followed === 3);
    note("device", dialog.open + " " + document.getElementById("detail-title").textContent);
    note("choices", dialog.querySelectorAll("tr").length > 10);
    document.getElementById("close").click();
    const filter = document.getElementById("filter");
    filter.value = "zen"; filter.oninput();
    note("filtered", document.querySelectorAll("#body tr").length);
    note("small", [...document.querySelectorAll("button")].filter(b => b.getBoundingClientRect().height &&
        b.getBoundingClientRect().height < 38).length);
    document.getElementById("notes").textContent = notes.join("\n");
})();
</script>
SCRIPT
}
visitor >"$work/visit.html"
for size in "390 844" "1400 900"; do
    for try in 1 2 3; do # under load chromium now and then loses the address that the last click set
        dom ${size% *} ${size#* } "$work/visit.html"
        grep -q '^choices=true' "$work/dom" && break
    done
    in_dom "cells=24" "rows=3" "sideways=false" "open=false" "clicked=true lm_head on NVIDIA GeForce RTX 5090" \
        "reasons=true" "within=true" "phase=true" "closed=true" "device=true NVIDIA GeForce RTX 5090" \
        "choices=true" "filtered=1" "small=0"
    grep -q "error=" "$work/dom" && fail "an error in the page: $(grep error= "$work/dom")"
    verdicts=$(sed -n 's/^verdicts=\([0-9]*\) of \([0-9]*\)$/\1 \2/p' "$work/dom")
    [ "${verdicts% *}" = "${verdicts#* }" ] || fail "not every kernel has a verdict: $verdicts"
done

# An address leads to its cell; the evil path is text.
dom 390 844 "$page#zen4/2/decode"
in_dom 'open=""' "Every kernel, and why not" "moe 1x2880x2880"
dom 390 844 "$work/evil.html"
in_dom "&lt;!--&lt;script&gt;x&lt;/script&gt;&lt;img src=x"
grep -q "<title>evil" "$work/dom" && fail "the path became a script"
finish
