// Zoom of a report's time charts: what is dragged over in one is shown by all of them; a double click shows the whole.
(() => {
  const STEPS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400].map((s) => s * 1000);
  const LABELS = 7, LEAST_MS = 100, DRAGGED_PX = 5;
  const make = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  // What moves with time is put under the clip of the axes; markers keep their shape and are moved one by one.
  function read(group) {
    const [first, last] = group.id.split("-").slice(1).map(Number), svg = group.ownerSVGElement;
    const drawn = [...group.querySelectorAll("[clip-path]")].filter((one) => !one.closest("[id^='matplotlib.axis']"));
    const rect = svg.querySelector(`${drawn[0].getAttribute("clip-path").slice(4, -1)} rect`);
    const [x, y, width, height] = ["x", "y", "width", "height"].map((key) => Number(rect.getAttribute(key)));
    const scaled = [], moved = [], marks = [];
    for (const one of drawn) {
      const uses = [...one.querySelectorAll("use")];
      if (uses.length) { moved.push(...uses.map((use) => [use, Number(use.getAttribute("x"))])); continue; }
      const clip = make("g", {"clip-path": one.getAttribute("clip-path")}), inner = make("g", {});
      one.removeAttribute("clip-path"); one.style.vectorEffect = "non-scaling-stroke";
      one.replaceWith(clip); clip.append(inner); inner.append(one);
      if (clip.closest("[id^='PathCollection']")) { const box = one.getBBox(); marks.push([inner, box.x + box.width / 2]); } else scaled.push(inner);
    }
    const labels = make("g", {"class": "times"}), axis = group.querySelector("[id='matplotlib.axis_1']"); axis.before(labels);  // behind what is drawn
    return {svg, first, last, x, y, width, height, scaled, moved, marks, labels, axis};
  }

  const charts = [...document.querySelectorAll("g[id^='time-']")].map(read);
  if (!charts.length) return;
  const whole = [Math.min(...charts.map((c) => c.first)), Math.max(...charts.map((c) => c.last))];
  let shown = whole;

  function draw(chart, from, to, all) {
    const zoom = (chart.last - chart.first) / (to - from), perMs = chart.width / (to - from);
    const shift = chart.x - zoom * chart.x - (from - chart.first) * perMs;
    for (const one of chart.scaled) one.setAttribute("transform", `matrix(${zoom} 0 0 1 ${shift} 0)`);
    for (const [one, x] of chart.marks) one.setAttribute("transform", `translate(${zoom * x + shift - x} 0)`);
    for (const [use, x] of chart.moved) use.setAttribute("x", zoom * x + shift);
    chart.axis.style.display = all ? "" : "none";
    chart.labels.replaceChildren();
    if (all) return;
    const step = STEPS.find((s) => (to - from) / s <= LABELS) ?? STEPS.at(-1) * Math.ceil((to - from) / STEPS.at(-1) / LABELS);
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      const x = chart.x + (at - from) * perMs, text = make("text", {x, y: chart.y + chart.height + 14, "text-anchor": "middle", style: "font: 9px sans-serif"});
      text.textContent = new Date(at).toISOString().slice(11, step < 1000 ? 23 : 19);
      chart.labels.append(make("path", {d: `M${x} ${chart.y}V${chart.y + chart.height}`, stroke: "#e4e7eb"}), text);
    }
  }

  function show(from, to) {
    const span = Math.min(whole[1] - whole[0], Math.max(LEAST_MS, to - from));
    const begin = Math.min(Math.max(from, whole[0]), whole[1] - span);
    shown = [begin, begin + span];
    if (span === whole[1] - whole[0]) shown = whole;
    document.body.dataset.shown = shown.join();
    for (const chart of charts) shown === whole ? draw(chart, chart.first, chart.last, true) : draw(chart, ...shown, false);
  }

  function hear(chart) {
    const {svg} = chart, span = () => shown[1] - shown[0];
    const unit = (event) => { const box = svg.getBoundingClientRect(); return (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width; };
    const time = (x) => shown[0] + Math.min(1, Math.max(0, (x - chart.x) / chart.width)) * span();
    let from = null, mark = null;
    svg.style.touchAction = "pan-y"; svg.style.cursor = "crosshair"; svg.setAttribute("tabindex", "0"); svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", svg.closest("figure").querySelector("figcaption").textContent);
    svg.addEventListener("pointerdown", (event) => {
      from = unit(event); mark = make("rect", {y: chart.y, height: chart.height, x: from, width: 0, fill: "#2563a8", opacity: 0.15});
      svg.append(mark); svg.setPointerCapture(event.pointerId); event.preventDefault(); svg.focus();
    });
    svg.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const to = unit(event);
      mark.setAttribute("x", Math.min(from, to)); mark.setAttribute("width", Math.abs(to - from));
    });
    const end = (event) => {
      if (from === null) return;
      const to = unit(event), ends = [time(Math.min(from, to)), time(Math.max(from, to))];
      mark.remove();
      if (event.type === "pointerup" && Math.abs(to - from) > DRAGGED_PX) show(...ends);
      from = null;
    };
    svg.addEventListener("pointerup", end); svg.addEventListener("pointercancel", end);
    svg.addEventListener("dblclick", () => show(...whole));
    svg.addEventListener("keydown", (event) => {
      const middle = (shown[0] + shown[1]) / 2, by = (share, move = 0) => show(middle - span() * share / 2 + move * span(), middle + span() * share / 2 + move * span());
      const act = {"+": () => by(0.5), "-": () => by(2), ArrowLeft: () => by(1, -0.25), ArrowRight: () => by(1, 0.25), Escape: () => show(...whole)}[event.key];
      if (act) { event.preventDefault(); act(); }
    });
  }

  charts.forEach(hear);
  show(...whole);
})();
