// What a person with poor sight, or with the keyboard alone, meets on a page as the browser draws it.
(() => {
  const parse = (text) => {
    const numbers = (text.match(/[\d.]+/g) || []).map(Number);
    if (!text.startsWith("rgb") && !text.startsWith("color")) return [0, 0, 0, 0];
    const scale = text.startsWith("color") ? 255 : 1;
    return [...numbers.slice(0, 3).map((n) => n * scale), numbers[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const opacity = (node) => (node ? Number(getComputedStyle(node).opacity) * opacity(node.parentElement) : 1);

  // Each text against what lies behind it, and each mark of a plot or a state: those too faint by
  // WCAG 2, level AA. What is disabled is exempt.
  function tooFaint() {
    const found = [];
    const check = (node, colour, least, kind) => {
      const ground = behind(node);
      const alpha = opacity(node);
      if (colour[3] * alpha === 0) return;
      const shown = ratio(over([...colour.slice(0, 3), colour[3] * alpha], ground), ground);
      if (shown < least) {
        const name = node.id || node.className.baseVal || node.className || node.tagName;
        found.push(`${kind} ${name} ${(node.textContent || "").trim().slice(0, 20)}: ${shown.toFixed(2)}`);
      }
    };
    const seen = (node) => node.checkVisibility() && node.getBoundingClientRect().width > 1;
    for (const node of document.querySelectorAll("body *")) {
      if (node.closest(":disabled, [aria-disabled=true], head, script, style, canvas") || !seen(node)) continue;
      const style = getComputedStyle(node);
      const inSvg = node.namespaceURI.endsWith("svg");
      const ownText = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
      const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
      if (ownText || (node.tagName === "INPUT" && node.value)) {
        check(node, parse(inSvg ? style.fill : style.color), large ? 3 : 4.5, "text");
      }
      if (node.matches("polyline, .after, .before, .estimate, .chosen, .at, .miss, .median")) {
        const colour = node.matches(".after") ? parse(style.fill) : parse(style.stroke);
        check(node, colour, 3, "mark");
      }
      if (node.matches(".dot, .icon, svg .m")) check(node, parse(style.color), 3, "state");
      if (node.matches(".mark, .key:not(svg)")) {
        const filled = parse(style.backgroundColor);
        if (filled[3]) check(node.parentElement, filled, 3, "state");
        else check(node.parentElement, parse(style.borderTopColor), 3, "state");
      }
    }
    return [...new Set(found)];
  }

  // Whatever takes the focus and has no name that a screen reader could say.
  function nameless() {
    const nodes = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']");
    const named = (node) => node.getAttribute("aria-label") || node.textContent.trim() || node.title ||
      [...(node.labels || [])].some((label) => label.textContent.trim()) || document.getElementById(node.getAttribute("aria-labelledby"));
    return [...nodes].filter((node) => node.checkVisibility() && !named(node)).map((node) => node.outerHTML.slice(0, 120));
  }

  // How the element in focus is marked.
  function outline() {
    const node = document.activeElement;
    const style = getComputedStyle(node);
    const width = style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
    return { name: node.id || node.outerHTML.slice(0, 60), width, contrast: ratio(parse(style.outlineColor).slice(0, 3), behind(node.parentElement || node)), body: node === document.body };
  }

  // What sticks out to the right: the page must not scroll sideways.
  const tooWide = () => document.documentElement.scrollWidth - innerWidth;

  // Views of which a part is beyond their right edge.
  const cut = () => [...document.querySelectorAll(".wide")].filter((view) => view.scrollWidth > view.clientWidth).map((view) => view.id);

  return { tooFaint, nameless, outline, tooWide, cut };
})()
