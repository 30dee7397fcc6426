// MathJax is part of the site, so formulas need no network; docs/hooks.py copies it from its Python package.
window.MathJax = {
  tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
  // The menu would load speech and exploration, which are not copied. Screen readers read the MathML beside each formula.
  options: { ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex", enableMenu: false },
};
if (document.querySelector(".arithmatex")) {
  const script = document.createElement("script");
  script.src = new URL("mathjax/es5/tex-chtml.js", document.currentScript.src);
  document.head.append(script);
}
