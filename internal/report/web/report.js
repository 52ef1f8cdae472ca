// SPDX-License-Identifier: Apache-2.0
(function () {
  "use strict";
  const root = document.documentElement;
  const all = (selector, within) => [...(within || document).querySelectorAll(selector)];

  list();
  help();
  sortable();
  inSight(".scroll:not(.list)", hint);
  charts();

  // inSight calls once for each element that comes near the window.
  function inSight(selector, call) {
    const sight = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        sight.unobserve(entry.target);
        call(entry.target);
      }
    }, { rootMargin: "600px" });
    for (const el of all(selector)) sight.observe(el);
  }

  // The list: search, filters, order, and the keys to go from one incident to another.
  function list() {
    const table = document.querySelector(".index"), tools = document.querySelector(".tools");
    const articles = all("article.incident");
    const rows = table ? all("tbody tr:not(.fold)", table) : [];
    const input = tools && tools.querySelector("input");
    const filters = {};
    const byAnchor = new Map(rows.map((r) => [r.querySelector("a").hash, r]));
    for (const a of articles) {
      const r = byAnchor.get("#" + a.id);
      if (!r) continue;
      r.title = a.querySelector("h2").textContent;
      r.words = (r.textContent + " " + r.title + " " + a.querySelector(".self").title).toLowerCase();
    }
    let sorted = false;

    function show() {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const names = Object.keys(filters);
      const active = words.length + names.length > 0;
      let shown = 0;
      for (const r of rows) {
        r.hidden = !(words.every((w) => r.words.includes(w)) && names.every((n) => r.dataset[n] === filters[n].value));
        if (!r.hidden) shown++;
      }
      // A filter is for the whole page: what it hides is not printed either.
      for (const a of articles) { const r = byAnchor.get("#" + a.id); a.hidden = !!r && r.hidden; }
      table.classList.toggle("flat", active || sorted);
      tools.querySelector("output").textContent = active ? shown + " of " + rows.length : "";
      document.querySelector(".summary .none").hidden = shown > 0;
      const chips = tools.querySelector(".chips");
      chips.replaceChildren(...names.map((n) => {
        const b = document.createElement("button");
        b.type = "button";
        b.textContent = filters[n].label;
        b.addEventListener("click", () => { delete filters[n]; show(); });
        return b;
      }));
    }

    function here() {
      const target = byAnchor.get(location.hash);
      for (const r of rows) r.classList.toggle("here", r === target);
      if (!target) return;
      const box = target.closest("tbody").querySelector(".fold input");
      if (box && !table.classList.contains("flat")) box.checked = true;
      const list = document.querySelector(".list");
      if (list.scrollHeight > list.clientHeight) list.scrollTop = target.offsetTop - list.clientHeight / 2;
    }

    function go(step) {
      const shown = articles.filter((a) => !a.hidden);
      if (shown.length === 0) return;
      let at = shown.findIndex((a) => "#" + a.id === location.hash);
      if (at < 0 && step < 0) at = 0;
      const next = shown[Math.max(0, Math.min(shown.length - 1, at + step))];
      location.replace("#" + next.id);
    }

    if (tools) {
      tools.hidden = false;
      input.addEventListener("input", show);
      for (const b of all(".tally button")) {
        const key = "w" in b.dataset ? "w" : "c";
        b.addEventListener("click", () => {
          filters[key] = { value: b.dataset[key], label: b.textContent };
          show();
          document.querySelector(".summary").scrollIntoView();
        });
      }
      const bodies = all("tbody", table), places = rows.map((r) => r.parentNode);
      table.place = (list) => {
        sorted = list !== rows;
        if (sorted) bodies[bodies.length - 1].append(...list);
        else rows.forEach((r, i) => places[i].append(r));
        show();
      };
      table.original = rows;
      table.addEventListener("click", (e) => {
        const row = e.target.closest("tbody tr:not(.fold)"), fold = e.target.closest("tr.fold");
        if (e.target.closest("a, label") || getSelection().toString()) return;
        if (row) location.hash = row.querySelector("a").hash;
        if (fold) fold.querySelector("input").click();
      });
    }
    addEventListener("hashchange", here);
    here();
    document.addEventListener("keydown", (e) => {
      if (e.ctrlKey || e.metaKey || e.altKey) return;
      if (e.key === "Escape" && input) { input.value = ""; for (const n in filters) delete filters[n]; input.blur(); show(); return; }
      if (e.target.matches("input[type=search]")) return;
      if (e.key === "j") go(1);
      if (e.key === "k") go(-1);
      if (e.key === "/" && input) { e.preventDefault(); input.focus(); }
    });
  }

  // number reads a size, a duration or a plain number at the start of a cell.
  function number(text) {
    const units = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, "µs": 1e-6, ms: 1e-3, min: 60 };
    const m = /^([-−]?[\d.]+)\s*([A-Za-zµ]*)/.exec(text.trim());
    return m ? parseFloat(m[1].replace("−", "-")) * (units[m[2]] || 1) : -Infinity;
  }

  // A click on the head of a column sorts by it, then the other way round, then as it was; so does Enter.
  function sortable() {
    for (const th of all(".index th, .sort th")) th.tabIndex = 0;
    document.addEventListener("keydown", (e) => {
      if (e.key === "Enter" && e.target.matches(".index th, .sort th")) e.target.click();
    });
    document.addEventListener("click", (e) => {
      const th = e.target.closest(".index th, .sort th");
      if (!th) return;
      const table = th.closest("table"), column = th.cellIndex, was = th.getAttribute("aria-sort");
      if (!table.original) {
        table.original = [...table.tBodies[0].rows];
        table.place = (rows) => table.tBodies[0].append(...rows);
      }
      const numeric = getComputedStyle(th).textAlign === "right" || th.textContent === "Limit";
      const [first, second] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      const way = was === first ? second : was === second ? "" : first;
      for (const h of all("th", table)) h.removeAttribute("aria-sort");
      if (!way) { table.place(table.original); return; }
      th.setAttribute("aria-sort", way);
      const text = (r) => r.cells[column].textContent;
      const sorted = table.original.slice();
      if (th.textContent !== "Time") { // which they are in the order of
        sorted.sort((a, b) => numeric ? number(text(a)) - number(text(b)) : text(a).localeCompare(text(b), undefined, { numeric: true }));
      }
      table.place(way === "descending" ? sorted.reverse() : sorted);
    });
  }

  // What a field means, from the description of the event.
  function help() {
    const fields = JSON.parse(document.querySelector("script.fields").textContent);
    document.addEventListener("mouseover", (e) => {
      const el = e.target.closest && e.target.closest("dt, th");
      if (el && !el.title && Object.hasOwn(fields, el.textContent)) el.title = fields[el.textContent];
    });
  }

  // A table that is wider than its box has a word about it; the style shows it on a phone.
  const sizes = new ResizeObserver((entries) => {
    for (const { target: box } of entries) box.previousElementSibling.classList.toggle("on", box.scrollWidth > box.clientWidth + 1);
  });

  function hint(box) {
    if (!box.querySelector("table")) return;
    const word = document.createElement("p");
    word.className = "hint";
    word.textContent = "scroll →";
    box.before(word);
    sizes.observe(box);
  }

  // The charts that come into sight, in place of their static pictures.
  function charts() {
    const figures = new Set(); // that are drawn
    const color = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

    function bytes(v) {
      const units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
      let i = 0;
      while (v >= 1023.95 && i < units.length - 1) { v /= 1024; i++; }
      return v.toFixed(1) + " " + units[i];
    }

    function text(unit, v) {
      if (v == null) return "–";
      if (unit === "KiB") return bytes(v);
      if (unit === "%") return v.toFixed(1) + " %";
      if (unit === "ms") return v >= 1e3 ? (v / 1e3).toFixed(1) + " s" : v >= 1 ? v.toFixed(v < 10 ? 1 : 0) + " ms" : (v * 1e3).toFixed(0) + " µs";
      return String(v);
    }

    function series(s) {
      const c = color(s.colour);
      const common = { stroke: c, points: { show: false } };
      if (s.kind === "bars") return Object.assign(common, { width: 0, fill: c, paths: uPlot.paths.bars({ size: [0.7, 40], align: -1 }) });
      if (s.kind === "area") return Object.assign(common, { width: 0, fill: c, spanGaps: true });
      return Object.assign(common, { width: 2, spanGaps: true });
    }

    // Areas and bars are stacked: each has the sum of it and those before.
    function columns(all, drawn) {
      const sum = all.x.map(() => 0);
      return drawn.map((s) => s.kind === "line" ? s.y : s.y.map((v, i) => v == null ? null : sum[i] += v));
    }

    // The limits, the kill, and right of it what the last value consisted of.
    function marks(all, panel) {
      return (u) => {
        const ctx = u.ctx, x = Math.round(u.valToPos(0, "x", true));
        ctx.save();
        const left = u.valToPos(all.end * 0.25, "x", true), right = u.valToPos(all.end * 0.95, "x", true);
        let at = 0;
        for (const part of panel.parts || []) {
          const low = u.valToPos(at, "y", true);
          at += part.value;
          const top = u.valToPos(Math.min(at, panel.max), "y", true);
          ctx.fillStyle = color(part.colour);
          ctx.fillRect(left, top, right - left, low - top);
        }
        ctx.lineWidth = 1.5 * devicePixelRatio;
        const line = (name, dash, x1, y1, x2, y2) => {
          ctx.strokeStyle = color(name);
          ctx.setLineDash(dash.map((v) => v * devicePixelRatio));
          ctx.beginPath();
          ctx.moveTo(x1, y1);
          ctx.lineTo(x2, y2);
          ctx.stroke();
        };
        for (const s of panel.series) {
          if (s.kind !== "limit") continue;
          const y = u.valToPos(s.level, "y", true);
          line(s.colour, [6, 4], u.bbox.left, y, u.bbox.left + u.bbox.width, y);
        }
        line("alarm", [], x, u.bbox.top, x, u.bbox.top + u.bbox.height);
        ctx.restore();
      };
    }

    function draw(figure) {
      const box = figure.parentNode;
      box.charts = box.charts || JSON.parse(box.querySelector("script").textContent);
      const all = box.charts, panel = all.panels[[...box.children].indexOf(figure)];
      const live = figure.querySelector(".live");
      const outputs = figure.querySelectorAll(".key output");
      figure.ends = figure.ends || [...outputs].map((o) => o.textContent); // what they have without a cursor
      const font = "11.5px " + getComputedStyle(document.body).fontFamily;
      const axis = { stroke: color("soft"), font: font, ticks: { show: false } };
      const drawn = panel.series.filter((s) => s.kind !== "limit");
      const data = columns(all, drawn);
      const stacked = drawn.length > 0 && drawn[0].kind !== "line";
      if (stacked) { drawn.reverse(); data.reverse(); } // the last is drawn first, the others over it
      live.hidden = false;
      live.replaceChildren();
      figure.classList.add("drawn");
      figure.plot = new uPlot({
        width: live.clientWidth, height: panel.height,
        legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { x: false, y: false }, sync: { key: figure.closest("article").id, scales: ["x", null] } },
        scales: {
          x: { time: false, range: () => [all.begin, all.end] },
          y: { range: () => [0, panel.max] },
        },
        series: [{}].concat(drawn.map(series)),
        axes: [
          Object.assign({}, axis, {
            size: 26, gap: 4, grid: { show: false }, splits: () => all.times,
            values: (u, at) => at.map((v, i) => v === 0 ? all.marker : u.width < 480 && (at.length - i) % 2 === 0 ? "" : "−" + +(-v).toPrecision(3) + " s"),
          }),
          Object.assign({}, axis, {
            size: 66, gap: 6, grid: { stroke: color("rule"), width: 1 },
            splits: () => panel.ticks.map((t) => t[0]), values: () => panel.ticks.map((t) => t[1]),
          }),
        ],
        hooks: {
          draw: [marks(all, panel)],
          setCursor: [(u) => {
            panel.series.forEach((s, i) => {
              if (s.kind === "limit") return;
              const at = u.cursor.idx;
              outputs[i].textContent = at == null ? figure.ends[i] : text(panel.unit, s.y[at]);
            });
          }],
        },
      }, [all.x].concat(data), live);
      figures.add(figure);
    }

    inSight("figure.chart", draw);

    let width = root.clientWidth;
    addEventListener("resize", () => {
      if (root.clientWidth === width) return;
      width = root.clientWidth;
      for (const f of figures) f.plot.setSize({ width: f.querySelector(".live").clientWidth, height: f.plot.height });
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const f of figures) { f.plot.destroy(); draw(f); }
    });
  }
})();
