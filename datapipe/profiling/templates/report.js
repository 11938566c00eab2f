(() => {
  "use strict";
  const chart = document.getElementById("steps-chart");
  const readout = document.getElementById("steps-readout");
  const cursor = document.getElementById("steps-cursor");
  const source = document.getElementById("steps-data");
  if (!chart || !readout || !cursor || !source) return;
  const data = JSON.parse(source.textContent);
  if (!data.columns || !data.columns.length) return;
  const idle = readout.textContent;
  const show = (index) => {
    const column = data.columns[index];
    const steps = column[0] === column[1] ? `step ${column[0]}` : `steps ${column[0]}–${column[1]}, mean`;
    const parts = data.names
      .map((name, i) => [name, column[i + 3]])
      .filter((pair) => pair[1] > 0)
      .map((pair) => `${pair[0]} ${pair[1].toFixed(2)}`);
    readout.textContent = `${steps}: ${column[2].toFixed(2)} ms = ${parts.join(" + ")}`;
    const x = ((index + 0.5) / data.columns.length) * 1000;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
  };
  let at = 0;
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const share = Math.min(0.9999, Math.max(0, (event.clientX - box.left) / box.width));
    at = Math.floor(share * data.columns.length);
    show(at);
  });
  chart.addEventListener("pointerleave", () => {
    readout.textContent = idle;
    cursor.setAttribute("visibility", "hidden");
  });
  chart.addEventListener("focus", () => show(at));
  chart.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    at = Math.min(data.columns.length - 1, Math.max(0, at + move));
    show(at);
  });
})();
