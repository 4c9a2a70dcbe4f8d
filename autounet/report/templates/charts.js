// Charts as SVG: strips of points with a box, points against a size, curves. All are drawn anew when their width changes.

const MOST_DOTS = 4000;
const FOLD_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C510A", "#56B4E9"];

/** A scale from values to pixels, with its ticks. */
function scale(low, high, start, end, log) {
  const most = Math.max(2, Math.abs(end - start) / (start > end ? 45 : 75)), narrow = log && high / low < 8;
  const plain = narrow ? linearTicks(low, high, most).filter((tick) => tick > 0) : null;
  if (log) { low = Math.log10(low); high = Math.log10(high); }
  if (!(high > low)) { const room = Math.abs(low) * 0.05 || 0.5; low -= room; high += room; }
  const at = (value) => start + (((log ? Math.log10(value) : value) - low) / (high - low)) * (end - start);
  at.ticks = plain ?? (log ? logTicks(low, high) : linearTicks(low, high, most));
  return at;
}

function linearTicks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const ticks = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + step * 1e-9; number++) ticks.push(Number((number * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  const factors = high - low > 3 ? [1] : high - low > 1.2 ? [1, 3] : [1, 2, 3, 5, 7];
  const ticks = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    for (const factor of factors) {
      const at = Math.log10(factor) + power;
      if (at >= low - 1e-9 && at <= high + 1e-9) ticks.push(factor * 10 ** power);
    }
  }
  return ticks;
}

function range(values, options) {
  const all = known(values).filter((value) => !options.log || value > 0);
  if (!all.length) return null;
  let low = options.low ?? Math.min(...all), high = options.high ?? Math.max(...all);
  if (options.log) { low /= 1.15; high *= 1.15; } else if (options.low === undefined) { const room = (high - low) * 0.04; low -= room; high += room; }
  return [low, high];
}

function nothing(element) {
  element.replaceChildren(make("p", { class: "caption" }, "There is nothing to draw."));
}

/** One strip for each group: {name, colour, points: [{value, case}]}. Options: log, low, high, digits, pick(case), label. */
function strips(element, groups, options) {
  const drawn = groups.map((group) => ({ ...group, points: group.points.filter((point) => Number.isFinite(point.value) && point.value !== null && (!options.log || point.value > 0)) }));
  const bounds = range(drawn.flatMap((group) => group.points.map((point) => point.value)), options);
  if (!bounds) { nothing(element); return; }
  const total = drawn.reduce((sum, group) => sum + group.points.length, 0);
  const draw = (width) => {
    const lane = Math.max(56, Math.min(120, 330 / drawn.length)), left = 8, right = width - 12, height = drawn.length * lane + 26;
    const at = scale(bounds[0], bounds[1], left, right, options.log);
    const label = `${options.label}. ${drawn.filter((group) => group.points.length).map((group) => `${group.name}: median ${brief(quantile(sorted(group), 0.5))} of ${group.points.length}`).join("; ")}.`;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    for (const tick of at.ticks) {
      picture.append(svg("line", { class: "grid", x1: at(tick), x2: at(tick), y1: 16, y2: height - 20 }), svg("text", { x: at(tick), y: height - 6, "text-anchor": "middle" }, brief(tick)));
    }
    drawn.forEach((group, number) => picture.append(strip(group, number * lane, lane, at, options, total, width)));
    element.replaceChildren(picture, ...thinned(total));
  };
  redrawn(element, draw);
}

const sorted = (group) => group.points.map((point) => point.value).sort((a, b) => a - b);

function strip(group, top, lane, at, options, total, width) {
  const values = sorted(group), room = (lane - 22) / 2, middle = top + 19 + room, radius = values.length > 120 ? 2.6 : 4;
  const parts = svg("g", {});
  const name = svg("text", { class: "name", x: 8, y: top + 13 }, shortened(group.name, Math.floor(width / 9)));
  parts.append(name);
  if (!values.length) {
    parts.append(svg("text", { x: 8, y: middle + 4 }, "none"));
    return parts;
  }
  const [low, median, high] = [0.25, 0.5, 0.75].map((part) => at(quantile(values, part)));
  if (values.length > 3) parts.append(svg("rect", { class: "box", x: low, y: middle - room * 0.7, width: Math.max(high - low, 1), height: room * 1.4, rx: 2 }));
  const stacks = new Map();
  for (const point of few(group.points, total)) {
    const x = at(point.value), bin = Math.round(x / (1.5 * radius)), above = stacks.get(bin) ?? 0;
    stacks.set(bin, above + 1);
    const offset = ((above % 2 ? 1 : -1) * Math.ceil(above / 2) * 1.3 * radius) % Math.max(room - radius, 1);
    parts.append(dot(x, middle + offset, group.colour, `${point.case}\n${group.name}: ${options.digits === undefined ? brief(point.value) : point.value.toFixed(options.digits)}`, point.case, options.pick, radius));
  }
  parts.append(svg("line", { class: "median", x1: median, x2: median, y1: middle - room * 0.85, y2: middle + room * 0.85 }));
  return parts;
}

/** All points, or of very many every so-manieth, with the lowest kept. */
function few(points, total) {
  if (total <= MOST_DOTS) return points;
  const step = Math.ceil(total / MOST_DOTS);
  return [...points].sort((a, b) => a.value - b.value).filter((_, number) => number < 5 || number % step === 0);
}

const thinned = (total) => (total > MOST_DOTS ? [make("p", { class: "caption" }, `Of ${total.toLocaleString("en")} points one in ${Math.ceil(total / MOST_DOTS)} is drawn, and the lowest.`)] : []);

function shortened(text, length) {
  return text.length <= length ? text : `${text.slice(0, Math.max(length - 1, 4))}…`;
}

function dot(x, y, colour, text, name, pick, radius = 4) {
  const circle = svg("circle", { class: radius < 4 ? "dot small" : "dot", cx: x.toFixed(1), cy: y.toFixed(1), r: radius });
  circle.style.setProperty("--c", colour);
  circle.addEventListener("pointermove", (event) => tip(event, text));
  circle.addEventListener("pointerleave", () => tip(null, ""));
  if (pick) circle.addEventListener("click", () => pick(name));
  return circle;
}

/** Points {x, y, case, group} of groups {name, colour}; x on a logarithmic axis. */
function scatter(element, groups, points, options) {
  const there = points.filter((point) => point.x > 0 && point.y !== null && Number.isFinite(point.y));
  const across = range(there.map((point) => point.x), { log: true });
  if (!across) { nothing(element); return; }
  const up = range(there.map((point) => point.y), options);
  const hidden = new Set();
  const legend = legendOf(groups, hidden, () => draw(element.clientWidth));
  const draw = (width) => {
    const left = 46, right = width - 12, bottom = 320, top = 10;
    const x = scale(across[0], across[1], left, right, true), y = scale(up[0], up[1], bottom, top, false);
    const picture = svg("svg", { viewBox: `0 0 ${width} 360`, role: "img", "aria-label": `${options.label}: ${there.length} points. The table of cases has the same numbers.` });
    axes(picture, x, y, left, right, top, bottom, options.xLabel, options.yLabel);
    for (const point of few(there.map((entry) => ({ ...entry, value: entry.y })), there.length)) {
      const group = groups[point.group];
      if (!hidden.has(group.name)) picture.append(dot(x(point.x), y(point.y), group.colour, `${point.case}\n${group.name}: ${fixed(point.y, options.digits)} at ${brief(point.x)} ${options.unit}`, point.case, options.pick, there.length > 240 ? 3 : 4));
    }
    element.replaceChildren(picture, legend, ...thinned(there.length));
  };
  redrawn(element, draw);
}

function axes(picture, x, y, left, right, top, bottom, xLabel, yLabel) {
  for (const tick of y.ticks) picture.append(svg("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }), svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, brief(tick)));
  for (const tick of x.ticks) picture.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }), svg("text", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, brief(tick)));
  picture.append(svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  picture.append(svg("text", { x: (left + right) / 2, y: bottom + 35, "text-anchor": "middle" }, xLabel));
  if (yLabel) picture.append(svg("text", { x: left, y: top - 12, "text-anchor": "start" }, yLabel));
}

function legendOf(groups, hidden, changed) {
  const legend = make("div", { class: "chart-legend", role: "group", "aria-label": "What is drawn" });
  if (groups.length < 2) return legend;
  for (const group of groups.slice(0, 24)) {
    legend.append(make("button", { type: "button", "aria-pressed": "true", click: (event) => {
      hidden.has(group.name) ? hidden.delete(group.name) : hidden.add(group.name);
      event.currentTarget.setAttribute("aria-pressed", String(!hidden.has(group.name)));
      changed();
    } }, swatch(group.colour), ` ${group.name}`));
  }
  if (groups.length > 24) legend.append(make("span", { class: "caption" }, `and ${groups.length - 24} more`));
  return legend;
}

/** Curves {group, name, colour, dashed, faint, x: [], y: []} over epochs. */
function curves(element, groups, lines, options) {
  const up = range(lines.flatMap((line) => line.y), options);
  if (!up) { nothing(element); return; }
  const all = lines.flatMap((line) => line.x), first = Math.min(...all), last = Math.max(...all);
  const hidden = new Set();
  const legend = legendOf(groups, hidden, () => draw(element.clientWidth));
  const draw = (width) => {
    const left = 46, right = width - 14, top = 12, bottom = 250;
    const x = scale(first, last, left, right, false), y = scale(up[0], up[1], bottom, top, false);
    x.ticks = x.ticks.filter((tick) => Number.isInteger(tick) && tick >= first && tick <= last);
    const picture = svg("svg", { viewBox: `0 0 ${width} 290`, role: "img", "aria-label": options.label });
    axes(picture, x, y, left, right, top, bottom, "epoch", "");
    const shown = lines.filter((line) => !hidden.has(line.group));
    for (const line of shown) drawCurve(picture, line, x, y);
    const cross = svg("line", { class: "cross", y1: top, y2: bottom, visibility: "hidden" });
    picture.append(cross);
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect(), pointer = ((event.clientX - box.left) / box.width) * width;
      const epochs = [...new Set(shown.flatMap((line) => line.x))];
      const nearest = epochs.reduce((best, epoch) => (Math.abs(x(epoch) - pointer) < Math.abs(x(best) - pointer) ? epoch : best), epochs[0]);
      if (nearest === undefined) return;
      for (const end of ["x1", "x2"]) cross.setAttribute(end, x(nearest));
      cross.setAttribute("visibility", "visible");
      const said = shown.filter((line) => line.x.includes(nearest)).map((line) => `${line.name}: ${fixed(line.y[line.x.indexOf(nearest)], 3)}`);
      tip(event, [`epoch ${nearest}`, ...said.slice(0, 14)].join("\n"));
    });
    picture.addEventListener("pointerleave", () => { cross.setAttribute("visibility", "hidden"); tip(null, ""); });
    element.replaceChildren(picture, legend);
  };
  redrawn(element, draw);
}

function drawCurve(picture, line, x, y) {
  let path = "", pen = false;
  line.x.forEach((epoch, number) => {
    const value = line.y[number];
    if (value === null) { pen = false; return; }
    path += `${pen ? "L" : "M"}${x(epoch).toFixed(1)},${y(value).toFixed(1)}`;
    pen = true;
  });
  const drawn = svg("path", { class: `curve series${line.dashed ? " dashed" : ""}${line.faint ? " faint" : ""}`, d: path });
  drawn.style.setProperty("--c", line.colour);
  picture.append(drawn);
  if (line.x.length === 1 && line.y[0] !== null) picture.append(dot(x(line.x[0]), y(line.y[0]), line.colour, line.name, "", null));
}

{
  const { data, classes, training } = payload;
  const axisGroups = (place) => data.axes.map((axis, number) => ({ name: `along ${axis}`, colour: FOLD_COLOURS[number], points: data.cases.map((entry) => ({ case: entry[0], value: entry[place][number] })) }));
  for (const [id, place, label] of [["chart-shapes", 1, "Size of each case in voxels"], ["chart-spacings", 2, "Spacing of each case in millimetres"]]) {
    const groups = axisGroups(place);
    if (groups.every((group) => group.points.every((point) => point.value === group.points[0].value))) {
      byId(id).replaceChildren(make("p", { class: "caption" }, `The same in every case: ${groups.map((group) => `${brief(group.points[0].value)} ${group.name}`).join(", ")}.`));
    } else strips(byId(id), groups, { label });
  }
  strips(byId("chart-volumes"), classes.map((entry, number) => ({ ...entry, points: data.cases.map((row) => ({ case: row[0], value: row[3][number] })) })), { log: true, label: `Size of each class, ${data.unit}` });

  for (const configuration of new Set(training.map((fold) => fold.configuration))) {
    const folds = training.filter((fold) => fold.configuration === configuration);
    const groups = folds.map((fold, number) => ({ name: `fold ${fold.fold}`, colour: FOLD_COLOURS[number % FOLD_COLOURS.length] }));
    const lines = (spec) => folds.flatMap((fold, number) => spec.map(([key, name, style]) => ({ group: groups[number].name, name: `${groups[number].name}, ${name}`, colour: groups[number].colour, ...style, x: fold.epochs, y: fold[key] })));
    const panel = (title, caption) => {
      const chart = make("div", { class: "chart" });
      return [chart, make("div", { class: "panel" }, make("h3", {}, title), make("p", { class: "caption" }, caption), chart)];
    };
    const [loss, lossPanel] = panel(`${configuration}: loss`, "Solid: training. Dashed: validation patches.");
    const [dice, dicePanel] = panel(`${configuration}: online Dice`, "Thick: smoothed mean over classes on validation patches. Thin: as measured. Not the scores of whole cases.");
    byId("training-charts").append(make("div", { class: "grid-2" }, lossPanel, dicePanel));
    curves(loss, groups, lines([["train_loss", "training", {}], ["validation_loss", "validation", { dashed: true }]]), { label: `Loss of ${configuration} over epochs` });
    curves(dice, groups, lines([["mean_dice", "mean", { faint: true }], ["ema_dice", "smoothed", {}]]), { low: 0, high: 1, label: `Online Dice of ${configuration} over epochs` });
  }
}
