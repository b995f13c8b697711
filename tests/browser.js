// Measures the page in the frame: its width, the contrast of every text with what lies behind it, what it loaded, and what in
// it could do anything.
const frame = document.querySelector("iframe");
const channels = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (view, node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = channels(view.getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  let contrast = 21, worst = "", texts = 0;
  for (const node of page.body.querySelectorAll("*")) {
    const has = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!has || !node.getClientRects().length || node.closest("title, desc, script")) continue;
    const style = view.getComputedStyle(node);
    const colour = channels(node.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [a, b] = [luminance(colour), luminance(behind(view, node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    texts += 1;
    if (ratio < contrast) [contrast, worst] = [ratio, node.textContent.slice(0, 60)];
  }
  const loaded = view.performance.getEntriesByType("resource").length;
  const active = page.querySelectorAll("script:not([type='application/json']), img, iframe, object, embed, link, form").length;
  const report = JSON.parse(page.getElementById("report")?.textContent ?? "null");
  document.querySelector("pre").textContent = JSON.stringify({ width: page.documentElement.scrollWidth, contrast, worst, texts, loaded, active, report });
};
frame.srcdoc = PAGE;
