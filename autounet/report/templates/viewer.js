// Slices of a case: image, truth, prediction and errors in three planes. A case is unpacked when it is first shown.

if (byId("viewer")) {
  const { indices, errors } = payload;
  const rgbOf = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  const labelColours = indices.map((entry) => rgbOf(entry.colour));
  const errorColours = [errors.missed, errors.extra, errors.confused, errors.unannotated].map(rgbOf);
  const unpacked = new Map();
  const state = { number: 0, plane: 0, slice: 0, channel: 0, opacity: 0.35, brightness: 1, panels: { image: true, truth: true, prediction: true, errors: true } };
  let current = null;

  /** Grey values of all slices of a sprite, z, y, x. */
  async function grey(sprite, [depth, height, width], columns) {
    const picture = new Image();
    picture.src = sprite;
    await picture.decode();
    const sheet = document.createElement("canvas");
    sheet.width = picture.naturalWidth;
    sheet.height = height;
    const context = sheet.getContext("2d", { willReadFrequently: true });
    const values = new Uint8Array(depth * height * width);
    for (let row = 0; row * columns < depth; row++) {
      context.drawImage(picture, 0, row * height, sheet.width, height, 0, 0, sheet.width, height);
      const pixels = context.getImageData(0, 0, sheet.width, height).data;
      for (let column = 0; column < columns && row * columns + column < depth; column++) {
        let to = (row * columns + column) * height * width;
        for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) values[to++] = pixels[4 * (y * sheet.width + column * width + x)];
      }
    }
    return values;
  }

  /** Label maps do not go through a picture: some browsers add noise to pictures that are read back. */
  async function inflate(text, bytesEach) {
    const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = await new Response(stream).arrayBuffer();
    return bytesEach === 1 ? new Uint8Array(bytes) : new Uint16Array(bytes);
  }

  /** 0 right, 1 missed, 2 extra, 3 another class, 4 not annotated. */
  function errorMap(truth, prediction) {
    const found = new Uint8Array(truth.length), classes = indices.length;
    for (let place = 0; place < truth.length; place++) {
      const real = truth[place], said = prediction[place] > classes ? 0 : prediction[place];
      if (real > classes) found[place] = 4;
      else if (real !== said) found[place] = said === 0 ? 1 : real === 0 ? 2 : 3;
    }
    return found;
  }

  /** Wrong voxels of every slice across each axis. */
  function profiles(wrong, [depth, height, width]) {
    const counts = [new Uint32Array(depth), new Uint32Array(height), new Uint32Array(width)];
    let place = 0;
    for (let z = 0; z < depth; z++) for (let y = 0; y < height; y++) for (let x = 0; x < width; x++, place++) {
      if (wrong[place] && wrong[place] < 4) { counts[0][z]++; counts[1][y]++; counts[2][x]++; }
    }
    return counts;
  }

  async function unpack(number) {
    if (!unpacked.has(number)) {
      const raw = JSON.parse(byId(`case-${number}`).textContent);
      const channels = await Promise.all(raw.sprites.map((sprite) => grey(sprite, raw.shape, raw.columns)));
      const both = await inflate(raw.labels, raw.labelBytes), half = both.length / 2;
      const volume = { ...raw, channels, truth: both.subarray(0, half), prediction: both.subarray(half) };
      const row = payload.results[payload.main].rows.find((candidate) => candidate[0] === raw.case);
      volume.nothing = !volume.prediction.some((label) => label > 0 && label <= indices.length) && !row[4].some((size) => size > 0);
      volume.errors = errorMap(volume.truth, volume.prediction);
      volume.profiles = profiles(volume.errors, raw.shape);
      unpacked.set(number, volume);
    }
    return unpacked.get(number);
  }

  /** Rows and columns of a plane, their sizes in mm, and where voxel (row, column) of a slice lies. Head is up, as in print. */
  function planeOf(volume, plane) {
    const [depth, height, width] = volume.shape, [mmZ, mmY, mmX] = volume.spacing;
    if (plane === 0) return { rows: height, columns: width, mm: [mmY, mmX], at: (slice, row, column) => (slice * height + row) * width + column };
    if (plane === 1) return { rows: depth, columns: width, mm: [mmZ, mmX], at: (slice, row, column) => ((depth - 1 - row) * height + slice) * width + column };
    return { rows: depth, columns: height, mm: [mmZ, mmY], at: (slice, row, column) => ((depth - 1 - row) * height + column) * width + slice };
  }

  function paintImage(volume, plane, dim) {
    const { rows, columns, at } = plane, picture = new ImageData(columns, rows);
    const gain = state.brightness * (dim ? 0.6 : 1);
    const sources = volume.colour && volume.channels.length === 3 ? volume.channels : Array(3).fill(volume.channels[state.channel]);
    for (let row = 0, to = 0; row < rows; row++) for (let column = 0; column < columns; column++, to += 4) {
      const place = at(state.slice, row, column);
      for (let colour = 0; colour < 3; colour++) picture.data[to + colour] = sources[colour][place] * gain;
      picture.data[to + 3] = 255;
    }
    return picture;
  }

  function paintLabels(map, plane, colours, opacity) {
    const { rows, columns, at } = plane, picture = new ImageData(columns, rows);
    for (let row = 0, to = 0; row < rows; row++) for (let column = 0; column < columns; column++, to += 4) {
      const label = map[at(state.slice, row, column)], colour = colours[label - 1];
      if (!colour) continue;
      picture.data.set(colour, to);
      picture.data[to + 3] = 255 * opacity;
    }
    return picture;
  }

  /** Lines along the borders of labels, at the canvas's own resolution. */
  function outline(context, map, plane, colours, stepX, stepY) {
    const { rows, columns, at } = plane, paths = new Map();
    const label = (row, column) => (row < 0 || column < 0 || row >= rows || column >= columns ? 0 : map[at(state.slice, row, column)]);
    const line = (owner, x1, y1, x2, y2) => {
      if (!colours[owner - 1]) return;
      if (!paths.has(owner)) paths.set(owner, new Path2D());
      paths.get(owner).moveTo(x1 * stepX, y1 * stepY);
      paths.get(owner).lineTo(x2 * stepX, y2 * stepY);
    };
    for (let row = 0; row <= rows; row++) for (let column = 0; column <= columns; column++) {
      const here = label(row, column), above = label(row - 1, column), before = label(row, column - 1);
      if (here !== above) line(here || above, column, row, column + 1, row);
      if (here !== before) line(here || before, column, row, column, row + 1);
    }
    context.lineWidth = Math.max(1.5, devicePixelRatio * 1.25);
    context.lineCap = "square";
    for (const [owner, path] of paths) {
      context.strokeStyle = `rgb(${colours[owner - 1].join(",")})`;
      context.stroke(path);
    }
  }

  /** Where the patient's right, left, front, back, head and feet are: at the middle of each edge, the same size at every resolution. */
  function letters(context, edges, width, height) {
    const size = 12 * devicePixelRatio, inset = 0.8 * size;
    const places = [[width / 2, inset], [width / 2, height - inset], [inset, height / 2], [width - inset, height / 2]];
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = size / 4;
    context.lineJoin = "round";
    context.strokeStyle = "#000";
    context.fillStyle = "#fff";
    places.forEach(([x, y], edge) => { context.strokeText(edges[edge], x, y); context.fillText(edges[edge], x, y); });
  }

  function drawPane(name, plane) {
    const figure = byId("viewer-panes").querySelector(`[data-pane="${name}"]`), canvas = figure.querySelector("canvas");
    figure.hidden = !state.panels[name];
    if (figure.hidden) return;
    const ratio = (plane.rows * plane.mm[0]) / (plane.columns * plane.mm[1]);
    // Tall planes are made narrower, so that a pane is never higher than the window.
    const widest = Math.min(canvas.parentElement.clientWidth, (0.62 * innerHeight) / ratio);
    const width = Math.max(Math.round(Math.min(widest * devicePixelRatio, 1200)), 2), height = Math.max(Math.round(width * ratio), 2);
    canvas.style.width = `${widest}px`;
    canvas.style.marginInline = "auto";
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const put = (picture, smooth) => {
      const sheet = document.createElement("canvas");
      sheet.width = plane.columns;
      sheet.height = plane.rows;
      sheet.getContext("2d").putImageData(picture, 0, 0);
      context.imageSmoothingEnabled = smooth;
      context.imageSmoothingQuality = "high";
      context.drawImage(sheet, 0, 0, width, height);
    };
    put(paintImage(current, plane, name === "errors"), true);
    if (name === "truth" || name === "prediction") {
      put(paintLabels(current[name], plane, labelColours, state.opacity), false);
      outline(context, current[name], plane, labelColours, width / plane.columns, height / plane.rows);
    } else if (name === "errors") put(paintLabels(current.errors, plane, errorColours, 0.9), false);
    if (current.edges.length) letters(context, current.edges[state.plane], width, height);
    if (name === "prediction") figure.querySelector("figcaption").textContent = current.nothing ? "Prediction: nothing predicted" : "Prediction";
    const text = { image: "Image", truth: "Truth", prediction: "Prediction", errors: "Errors" }[name];
    canvas.setAttribute("aria-label", `${text} of ${current.case}, ${where()}`);
  }

  const slices = () => current.shape[state.plane];
  const where = () => (current.planes.length === 1 ? "the whole image" : `${current.planes[state.plane]} slice ${state.slice + 1} of ${slices()}`);

  function draw() {
    if (!current) return;
    const plane = planeOf(current, state.plane);
    byId("viewer-panes").style.setProperty("--panes", Object.values(state.panels).filter(Boolean).length);
    byId("viewer-panes").classList.toggle("flat", slices() === 1);
    for (const name of Object.keys(state.panels)) drawPane(name, plane);
    const wrong = current.profiles[state.plane][state.slice];
    byId("viewer-status").textContent = `${current.case}: ${where()}, ${wrong.toLocaleString("en")} wrong ${current.planes.length === 1 ? "pixels" : "voxels"}${current.note ? `. Shown ${current.note}.` : ""}`;
    const slider = byId("viewer-slice");
    slider.max = String(slices() - 1);
    slider.value = String(state.slice);
    slider.setAttribute("aria-valuetext", where());
    byId("viewer-slider").hidden = slices() === 1;
    if (slices() > 1) drawProfile();
  }

  function drawProfile() {
    const canvas = byId("viewer-profile"), counts = current.profiles[state.plane], most = Math.max(...counts, 1);
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    const context = canvas.getContext("2d"), step = canvas.width / counts.length, style = getComputedStyle(document.documentElement);
    counts.forEach((count, slice) => {
      context.fillStyle = style.getPropertyValue(slice === state.slice ? "--accent" : "--muted");
      context.globalAlpha = slice === state.slice ? 1 : 0.55;
      const height = Math.max((count / most) * (canvas.height - 2), slice === state.slice ? 2 : 0);
      context.fillRect(slice * step, canvas.height - height, Math.max(step - 1, 1), height);
    });
  }

  function move(slice) {
    const wanted = Math.max(0, Math.min(slices() - 1, slice));
    if (wanted === state.slice) return false;
    state.slice = wanted;
    draw();
    return true;
  }

  /** The slice with the most wrong voxels: failures first; without any, the one with most foreground. */
  function goToWorst() {
    const counts = current.profiles[state.plane];
    let worst = counts.indexOf(Math.max(...counts));
    if (counts[worst] === 0) worst = counts.length >> 1;
    state.slice = worst;
  }

  function choosePlane(plane) {
    if (plane >= current.planes.length) return;
    state.plane = plane;
    goToWorst();
    pressed(byId("viewer-planes"), plane);
    draw();
  }

  const pressed = (group, number) => [...group.children].forEach((button, place) => button.setAttribute("aria-pressed", String(place === number)));

  async function show(number) {
    state.number = number;
    pressed(byId("viewer-cases"), number);
    byId("viewer-cases").scrollLeft = cases[number].offsetLeft - byId("viewer-cases").offsetLeft - 30; // a phone shows two of them
    byId("viewer-status").textContent = "Unpacking …";
    try {
      const volume = await unpack(number);
      if (state.number !== number) return; // another case was chosen meanwhile
      current = volume;
    } catch (error) {
      byId("viewer-status").textContent = `This browser cannot unpack the slices (${error.message}).`;
      return;
    }
    byId("viewer-planes").replaceChildren(...current.planes.map((name, plane) => make("button", { type: "button", "aria-pressed": "false", click: () => choosePlane(plane) }, name)));
    byId("viewer-planes").hidden = current.planes.length === 1;
    byId("viewer-channel-label").hidden = current.channels.length === 1 || current.colour;
    byId("viewer-channel").replaceChildren(...current.channels.map((_, channel) => make("option", { value: channel }, payload.channels[channel])));
    state.channel = Math.min(state.channel, current.channels.length - 1);
    byId("viewer-channel").value = String(state.channel);
    drawScores();
    choosePlane(Math.min(state.plane, current.planes.length - 1));
  }

  function drawScores() {
    const results = payload.results[payload.main], row = results.rows.find((candidate) => candidate[0] === current.case);
    const heads = ["Class", ...results.metrics.map((entry) => (entry.unit ? `${entry.label}, ${entry.unit}` : entry.label)), `Truth, ${payload.data.unit}`, `Predicted, ${payload.data.unit}`];
    const number = (text) => make("td", { class: "n" }, text);
    const body = payload.classes.map((entry, place) => make("tr", {}, make("th", { scope: "row" }, swatch(entry.colour), `\u00a0${entry.name}`),
      ...results.metrics.map((metric, at) => number(fixed(row[2][at][place], metric.digits))), ...[row[3][place], row[4][place]].map((size) => number(size === null ? "–" : brief(size)))));
    byId("viewer-scores").replaceChildren(make("thead", {}, make("tr", {}, ...heads.map((name, place) => make("th", { scope: "col", class: place ? "n" : "" }, name)))), make("tbody", {}, ...body));
  }

  const cases = payload.viewer.map((entry, number) => {
    const results = payload.results[payload.main], row = results.rows.find((candidate) => candidate[0] === entry.case);
    return make("button", { type: "button", "aria-pressed": "false", click: () => show(number) }, make("b", {}, fixed(mean(row[2][0]), 3)), ` ${entry.case}`, make("small", {}, `${entry.group}, fold ${entry.fold}`));
  });
  byId("viewer-cases").append(...cases);
  byId("viewer-legend").append(
    ...indices.map((entry) => make("span", {}, swatch(entry.colour), entry.name)),
    ...[["missed", "missed"], ["extra", "extra"], ...(indices.length > 1 ? [["confused", "wrong class"]] : []), ...(payload.partial ? [["unannotated", "not annotated"]] : [])].map(([key, name]) => make("span", {}, swatch(errors[key]), name)));

  showers.push((name) => {
    const number = payload.viewer.findIndex((entry) => entry.case === name);
    if (number < 0) return false;
    show(number);
    byId("slices").scrollIntoView();
    byId("viewer-stage").focus({ preventScroll: true });
    return true;
  });

  const stage = byId("viewer-stage");
  let wheeled = 0;
  stage.addEventListener("wheel", (event) => {
    if (!current || slices() === 1 || event.ctrlKey) return;
    const end = event.deltaY > 0 ? slices() - 1 : 0;
    if (state.slice === end) return; // at the end the page goes on
    event.preventDefault();
    wheeled += event.deltaMode === 0 ? event.deltaY / 40 : event.deltaY;
    const steps = Math.trunc(wheeled) || (Math.abs(event.deltaY) >= 40 ? Math.sign(wheeled) : 0);
    if (steps) { wheeled = 0; move(state.slice + Math.max(-3, Math.min(3, steps))); }
  }, { passive: false });

  const keys = {
    ArrowUp: () => move(state.slice - 1), ArrowDown: () => move(state.slice + 1), PageUp: () => move(state.slice - 10), PageDown: () => move(state.slice + 10),
    Home: () => move(0), End: () => move(slices() - 1),
    ArrowLeft: () => show((state.number + cases.length - 1) % cases.length), ArrowRight: () => show((state.number + 1) % cases.length),
    a: () => choosePlane(0), c: () => choosePlane(1), s: () => choosePlane(2), t: () => toggle("truth"), p: () => toggle("prediction"), e: () => toggle("errors"),
  };
  stage.addEventListener("keydown", (event) => {
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || !current || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  });

  function toggle(name) {
    state.panels[name] = !state.panels[name];
    document.querySelector(`[data-panel="${name}"]`).setAttribute("aria-pressed", String(state.panels[name]));
    draw();
  }
  for (const button of document.querySelectorAll("[data-panel]")) button.addEventListener("click", () => toggle(button.dataset.panel));
  byId("viewer-slice").addEventListener("input", (event) => move(Number(event.target.value)));
  byId("viewer-opacity").addEventListener("input", (event) => { state.opacity = event.target.value / 100; draw(); });
  byId("viewer-brightness").addEventListener("input", (event) => { state.brightness = event.target.value / 100; draw(); });
  byId("viewer-channel").addEventListener("change", (event) => { state.channel = Number(event.target.value); draw(); });
  byId("viewer-profile").addEventListener("click", (event) => move(Math.floor((event.offsetX / byId("viewer-profile").clientWidth) * slices())));
  document.addEventListener("theme", draw);
  redrawn(stage, draw);
  show(0);
}
