// The latent explorer: a trained decoder and the classifier, computed in the page. A latent is a blend of two
// test images' codes, moved within a slice: z = (1 - t) from + t to + x axis[0] + y axis[1].
"use strict";
(() => {
  const REACH = 3;                      // the slice ends at this many standard deviations
  const TILES = 9, TILES_PER_FRAME = 6; // of the map behind the point
  const STEP = 0.1;                     // of an arrow key

  const find = name => document.getElementById("explorer-" + name);
  const data = JSON.parse(find("data").textContent);
  const [HEIGHT, WIDTH] = data.shape;
  const bars = [...find("classes").children].map(item => item.querySelector(".bar span"));
  const values = [...find("classes").children].map(item => item.querySelector(".value"));

  function half(bits) {                 // float16 to a number
    const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
    return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
  }

  function unpack(text) {               // base64 of little-endian float16
    const bytes = atob(text), numbers = new Float32Array(bytes.length / 2);
    for (let i = 0; i < numbers.length; i++)
      numbers[i] = half(bytes.charCodeAt(2 * i) | bytes.charCodeAt(2 * i + 1) << 8);
    return numbers;
  }

  const layers = packed => packed.map(({weight, bias}) => ({weight: unpack(weight), bias: unpack(bias)}));

  function forward(network, x) {        // linear layers with ReLU between them
    network.forEach(({weight, bias}, depth) => {
      const y = Float32Array.from(bias);
      for (let row = 0; row < x.length; row++) {
        if (x[row] === 0) continue;     // as many of ReLU's outputs are
        for (let column = 0, at = row * y.length; column < y.length; column++) y[column] += x[row] * weight[at++];
      }
      x = depth < network.length - 1 ? y.map(value => Math.max(value, 0)) : y;
    });
    return x;
  }

  function softmax(logits) {
    const most = Math.max(...logits), powers = Array.from(logits, logit => Math.exp(logit - most));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map(power => power / sum);
  }

  const classifier = layers(data.classifier);
  const models = data.models.map(model => ({decoder: layers(model.decoder), digits: unpack(model.digits),
                                            axes: unpack(model.axes)}));
  let model = models[0], x = 0, y = 0;  // x and y in standard deviations
  let scheduled = false, next = 0, waiting = 0;     // tiles of the map

  function latent(x, y) {
    const size = model.axes.length / 2, t = Number(find("blend").value);
    const from = size * find("from").value, to = size * find("to").value;
    return Float32Array.from({length: size}, (_, i) => (1 - t) * model.digits[from + i]
      + t * model.digits[to + i] + x * model.axes[i] + y * model.axes[size + i]);
  }

  const decode = z => forward(model.decoder, z).map(logit => 1 / (1 + Math.exp(-logit)));

  function paint(canvas, image, left, top) {
    const pixels = new ImageData(WIDTH, HEIGHT);
    image.forEach((value, i) => pixels.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
    canvas.getContext("2d").putImageData(pixels, left, top);
  }

  function paintTile() {                // the next one of the map
    const column = next % TILES, row = Math.floor(next / TILES), centre = i => REACH * (2 * (i + 0.5) / TILES - 1);
    paint(find("map"), decode(latent(centre(column), -centre(row))), WIDTH * column, HEIGHT * row);
    next = (next + 1) % TILES ** 2;
    waiting--;
  }

  function draw() {
    scheduled = false;
    const z = latent(x, y), image = decode(z), probabilities = softmax(forward(classifier, image));
    const entropy = -probabilities.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);
    const best = probabilities.indexOf(Math.max(...probabilities));
    paint(find("image"), image, 0, 0);
    find("image").setAttribute("aria-label", `The generated image, classified as ${data.classes[best]}`);
    probabilities.forEach((p, i) => {
      bars[i].style.width = 100 * p + "%";
      values[i].textContent = p.toFixed(3);
      bars[i].closest("li").classList.toggle("best", i === best);
    });
    find("entropy").textContent = entropy.toFixed(3);
    find("entropy-bar").style.width = 100 * entropy / Math.log(probabilities.length) + "%";
    find("place").textContent = `At ${x.toFixed(1)} and ${y.toFixed(1)} standard deviations`;
    find("handle").style.left = 50 * (1 + x / REACH) + "%";
    find("handle").style.top = 50 * (1 - y / REACH) + "%";
    globalThis.explorer = {latent: z, image, probabilities, entropy};      // for the curious, and for tests
    for (let i = 0; i < TILES_PER_FRAME && waiting > 0; i++) paintTile();
    if (waiting > 0) update();
  }

  function update() {                   // draw once, with the next frame
    if (!scheduled) requestAnimationFrame(draw);
    scheduled = true;
  }

  function changeMap() {
    waiting = TILES ** 2;
    update();
  }

  function move(toX, toY) {
    const within = value => Math.min(REACH, Math.max(-REACH, value));
    [x, y] = [within(toX), within(toY)];
    update();
  }

  function drag(event) {
    const box = find("pad").getBoundingClientRect();
    move(REACH * (2 * (event.clientX - box.left) / box.width - 1),
         REACH * (1 - 2 * (event.clientY - box.top) / box.height));
  }

  const keys = {ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP], Home: null};
  find("pad").addEventListener("keydown", event => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    move(...(keys[event.key] ? [x + keys[event.key][0], y + keys[event.key][1]] : [0, 0]));
  });
  find("pad").addEventListener("pointerdown", event => {
    find("pad").setPointerCapture(event.pointerId);
    drag(event);
  });
  find("pad").addEventListener("pointermove", event => event.buttons && drag(event));
  for (const name of ["from", "to", "blend"]) find(name).addEventListener("input", changeMap);
  for (const radio of document.getElementsByName("explorer-model"))
    radio.addEventListener("change", () => { model = models[radio.value]; changeMap(); });

  Object.assign(find("map"), {width: TILES * WIDTH, height: TILES * HEIGHT});
  Object.assign(find("image"), {width: WIDTH, height: HEIGHT});
  changeMap();
})();
