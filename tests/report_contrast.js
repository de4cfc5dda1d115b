// The lowest contrast of small text with the card that it stands on (WCAG 2.1: 4.5 for level AA).
(() => {
  const linear = (x) => (x > 0.04 ? ((x + 0.055) / 1.055) ** 2.4 : x / 12.92);
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map((x) => linear(x / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const small = "section p, section small, summary, .tile dt, figcaption, th, td, nav a";
  const ratios = [...document.querySelectorAll(small)].map((one) => {
    const card = getComputedStyle(one.closest("section, .tile, nav")).backgroundColor;
    const [high, low] = [luminance(getComputedStyle(one).color), luminance(card)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  });
  return Math.min(...ratios);
})();
