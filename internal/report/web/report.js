// SPDX-License-Identifier: Apache-2.0
// Draws the charts that come into sight, in place of their static pictures.
(function () {
  "use strict";
  const root = document.documentElement;
  const drawn = new Set();

  function color(name) { return getComputedStyle(root).getPropertyValue("--" + name).trim(); }

  function bytes(v) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let i = 0;
    while (v >= 1023.95 && i < units.length - 1) { v /= 1024; i++; }
    return (i ? v.toFixed(1) : v) + " " + units[i];
  }

  function text(unit, v) {
    if (v == null) return "";
    if (unit === "bytes") return bytes(v);
    if (unit === "percent") return v.toFixed(1) + " %";
    if (unit === "ns") return v >= 1e9 ? (v / 1e9).toFixed(1) + " s" : v >= 1e6 ? (v / 1e6).toFixed(v < 1e7 ? 1 : 0) + " ms" : (v / 1e3).toFixed(0) + " µs";
    return String(v);
  }

  function series(s) {
    const c = color("c" + s.colour);
    const common = { label: s.label, stroke: c, points: { show: false } };
    if (s.kind === "limit") return Object.assign(common, { width: 1.5, dash: [6, 4], spanGaps: true });
    if (s.kind === "bars") return Object.assign(common, { width: 0, fill: c, paths: uPlot.paths.bars({ size: [0.7, 40] }) });
    return Object.assign(common, { width: 2, spanGaps: true, fill: s.kind === "area" ? c + "2a" : undefined });
  }

  // Bars and limits have to begin and end somewhere: all series share one row of
  // times, which reaches from the begin of the window to the kill.
  function columns(panel) {
    const x = panel.x.slice();
    const from = panel.begin, to = 0;
    const before = x.length === 0 || x[0] > from, after = x.length === 0 || x[x.length - 1] < to;
    const pad = (y, at) => (before ? [at] : []).concat(y, after ? [at] : []);
    const data = [(before ? [from] : []).concat(x, after ? [to] : [])];
    for (const s of panel.series) {
      data.push(s.kind === "limit" ? data[0].map(() => s.level) : pad(s.y, null));
    }
    return data;
  }

  function marker(panel) {
    return (u) => {
      const x = Math.round(u.valToPos(0, "x", true));
      const ctx = u.ctx;
      ctx.save();
      ctx.setLineDash([]);
      ctx.strokeStyle = color("alarm");
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(x, u.bbox.top);
      ctx.lineTo(x, u.bbox.top + u.bbox.height);
      ctx.stroke();
      ctx.restore();
    };
  }

  function draw(figure) {
    const panel = JSON.parse(figure.querySelector("script").textContent);
    const live = figure.querySelector(".live");
    const outputs = figure.querySelectorAll(".key output");
    const font = "11.5px " + getComputedStyle(document.body).fontFamily;
    const axis = { stroke: color("soft"), font: font, ticks: { show: false } };
    live.hidden = false;
    live.replaceChildren();
    figure.classList.add("drawn");
    const plot = new uPlot({
      width: live.clientWidth, height: panel.height,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: figure.closest("article").id } },
      scales: {
        x: { time: false, range: () => [panel.begin, 1] },
        y: { range: () => [0, panel.max] },
      },
      series: [{}].concat(panel.series.map(series)),
      axes: [
        Object.assign({}, axis, {
          size: 26, gap: 4, grid: { show: false }, splits: () => panel.times,
          values: (u, at) => at.map((v, i) => v === 0 ? panel.marker : u.width < 480 && i % 2 ? "" : "−" + +(-v).toPrecision(3) + " s"),
        }),
        Object.assign({}, axis, {
          size: 66, gap: 6, grid: { stroke: color("rule"), width: 1 },
          splits: () => panel.ticks.map((t) => t.at), values: () => panel.ticks.map((t) => t.label),
        }),
      ],
      hooks: {
        draw: [marker(panel)],
        setCursor: [(u) => {
          panel.series.forEach((s, i) => {
            if (s.kind === "limit") return;
            const at = u.cursor.idx;
            outputs[i].textContent = at == null ? s.text || "" : text(panel.unit, u.data[i + 1][at]);
          });
        }],
      },
    }, columns(panel), live);
    drawn.add(figure);
    figure.plot = plot;
  }

  const figures = document.querySelectorAll("figure.chart");
  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      sight.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "600px" });
  figures.forEach((f) => sight.observe(f));

  let width = root.clientWidth;
  window.addEventListener("resize", () => {
    if (root.clientWidth === width) return;
    width = root.clientWidth;
    for (const f of drawn) f.plot.setSize({ width: f.querySelector(".live").clientWidth, height: f.plot.height });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const f of drawn) { f.plot.destroy(); draw(f); }
  });
})();
