// The distribution of a metric, the metric against size, and the table of cases that can be sorted and filtered.

const MOST_CLASS_COLUMNS = 8;
const showers = []; // the viewer puts its way to show a case here

/** Shows a case: its slices where the page has them, else its row in the table. */
function pickCase(name) {
  const row = [...document.querySelectorAll("#case-table tbody tr")].find((candidate) => candidate.dataset.case === name);
  for (const other of document.querySelectorAll("#case-table tr.marked")) other.classList.remove("marked");
  if (row) row.classList.add("marked");
  if (showers.some((show) => show(name))) return;
  if (row) row.scrollIntoView({ block: "center" });
}

if (payload.results.length) {
  const state = { results: payload.results[payload.main], metric: 0, sort: { column: "value", descending: false } };
  const { classes } = payload;
  const classColumns = classes.length <= MOST_CLASS_COLUMNS;
  const metric = () => state.results.metrics[state.metric];
  const valuesOf = (row) => row[2][state.metric];

  const columns = () => [
    { key: "case", name: "Case", of: (row) => row[0] },
    { key: "fold", name: "Fold", of: (row) => row[1] },
    { key: "value", name: `Mean ${metric().label}`, number: true, of: (row) => mean(valuesOf(row)) },
    ...(classColumns
      ? classes.map((entry, number) => ({ key: `class${number}`, name: entry.name, colour: entry.colour, number: true, of: (row) => valuesOf(row)[number] }))
      : [
          { key: "worst", name: metric().lower ? "Highest class" : "Lowest class", number: true, of: (row) => extreme(row)[0] },
          { key: "worstName", name: "which", of: (row) => extreme(row)[1] },
        ]),
    { key: "truth", name: `Truth, ${payload.data.unit}`, number: true, size: true, of: (row) => total(row[3]) },
    { key: "predicted", name: `Predicted, ${payload.data.unit}`, number: true, size: true, of: (row) => total(row[4]) },
  ];
  const total = (sizes) => (known(sizes).length ? known(sizes).reduce((sum, size) => sum + size, 0) : null);
  const extreme = (row) => {
    const entries = valuesOf(row).map((value, number) => [value, classes[number].name]).filter(([value]) => value !== null);
    entries.sort((a, b) => (metric().lower ? b[0] - a[0] : a[0] - b[0]));
    return entries[0] ?? [null, "–"];
  };

  const drawCharts = () => {
    const { label, unit, digits, fraction } = metric();
    const named = unit ? `${label}, ${unit}` : label;
    byId("distribution-title").textContent = `${named}: distribution over cases`;
    byId("scatter-title").textContent = `${named} against size of the class`;
    const bounds = fraction ? { low: 0, high: 1 } : {};
    const fresh = (id) => { const old = byId(id), next = make("div", { class: "chart", id }); old.replaceWith(next); return next; };
    const rows = state.results.rows;
    strips(fresh("chart-distribution"), classes.map((entry, number) => ({ ...entry, points: rows.map((row) => ({ case: row[0], value: valuesOf(row)[number] })) })),
      { ...bounds, digits, pick: pickCase, label: `${named} of each class over ${rows.length} cases` });
    const points = rows.flatMap((row) => classes.map((_, number) => ({ case: row[0], group: number, x: row[3][number], y: valuesOf(row)[number] })));
    scatter(fresh("chart-scatter"), classes, points, { ...bounds, digits, pick: pickCase, unit: payload.data.unit, xLabel: `size in the truth, ${payload.data.unit}`, yLabel: "", label: `${named} against size` });
  };

  const compare = (column) => (a, b) => {
    const [first, second] = [column.of(a), column.of(b)];
    if (first === null || second === null) return (first === null) - (second === null); // what is undefined comes last either way
    const order = column.number ? first - second : String(first).localeCompare(String(second), undefined, { numeric: true });
    return state.sort.descending ? -order : order;
  };

  const drawHead = () => {
    const cells = columns().map((column) => {
      const sorting = column.key === state.sort.column ? (state.sort.descending ? "descending" : "ascending") : "none";
      const button = make("button", { type: "button", click: () => {
        state.sort = { column: column.key, descending: column.key === state.sort.column && !state.sort.descending };
        drawHead();
        drawRows();
        byId("case-table").querySelector(`th[data-key="${column.key}"] button`).focus();
      } }, ...(column.colour ? [swatch(column.colour), " "] : []), column.name);
      return make("th", { scope: "col", "aria-sort": sorting, "data-key": column.key, class: column.number ? "n" : "" }, button);
    });
    byId("case-table").tHead.replaceChildren(make("tr", {}, ...cells));
  };

  const bar = (value) => svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: 100 * Math.max(0, Math.min(1, value)), height: 10 }));

  const cell = (column, row) => {
    const value = column.of(row);
    if (column.key === "case") return make("th", { scope: "row" }, make("button", { type: "button", click: () => pickCase(value) }, value));
    if (!column.number) return make("td", {}, value);
    if (column.size) return make("td", { class: "n" }, value === null ? "–" : brief(value));
    const low = metric().fraction && !metric().lower && value !== null && value < 0.5;
    const parts = column.key === "value" && metric().fraction && value !== null ? [bar(value)] : [];
    return make("td", { class: low ? "n low" : "n" }, ...parts, fixed(value, metric().digits));
  };

  const drawRows = () => {
    const text = byId("filter-text").value.trim().toLowerCase(), fold = byId("filter-fold").value;
    const limit = byId("filter-below").value === "" ? null : Number(byId("filter-below").value);
    const all = columns(), column = all.find((candidate) => candidate.key === state.sort.column) ?? all[2];
    const rows = state.results.rows.filter((row) => {
      const value = mean(valuesOf(row));
      return row[0].toLowerCase().includes(text) && (fold === "" || row[1] === fold) && (limit === null || (value !== null && (metric().lower ? value > limit : value < limit)));
    });
    rows.sort(compare(column));
    byId("case-table").tBodies[0].replaceChildren(...rows.map((row) => make("tr", { "data-case": row[0] }, ...all.map((each) => cell(each, row)))));
    byId("case-count").textContent = `${rows.length} of ${state.results.rows.length} cases of ${state.results.configuration}`;
  };

  const drawAll = () => {
    byId("filter-below-label").textContent = `Mean ${metric().label} ${metric().lower ? "above" : "below"}`;
    const folds = [...new Set(state.results.rows.map((row) => row[1]))];
    const chosen = byId("filter-fold").value;
    byId("filter-fold").replaceChildren(make("option", { value: "" }, "all"), ...folds.map((fold) => make("option", { value: fold }, fold)));
    byId("filter-fold").value = folds.includes(chosen) ? chosen : "";
    drawCharts();
    drawHead();
    drawRows();
  };

  const fillMetrics = () => byId("choose-metric").replaceChildren(...state.results.metrics.map((entry, number) => make("option", { value: number }, entry.label)));
  byId("choose-configuration").replaceChildren(...payload.results.map((entry, number) => make("option", { value: number }, entry.configuration)));
  byId("choose-configuration").value = String(payload.main);
  byId("choose-configuration").addEventListener("change", (event) => {
    const key = metric().key;
    state.results = payload.results[Number(event.target.value)];
    state.metric = Math.max(state.results.metrics.findIndex((entry) => entry.key === key), 0);
    fillMetrics();
    byId("choose-metric").value = String(state.metric);
    drawAll();
  });
  byId("choose-metric").addEventListener("change", (event) => {
    state.metric = Number(event.target.value);
    state.sort = { column: "value", descending: metric().lower }; // failures first
    drawAll();
  });
  for (const id of ["filter-text", "filter-fold", "filter-below"]) byId(id).addEventListener("input", drawRows);
  fillMetrics();
  drawAll();

  const worst = byId("worst-list");
  if (worst) {
    const rows = new Map(state.results.rows.map((row) => [row[0], row]));
    for (const entry of payload.viewer.filter((candidate) => candidate.group === "worst")) {
      worst.append(make("li", {}, make("button", { type: "button", click: () => pickCase(entry.case) }, make("b", {}, fixed(mean(rows.get(entry.case)[2][0]), 3)), ` ${entry.case}`)));
    }
  }
}
