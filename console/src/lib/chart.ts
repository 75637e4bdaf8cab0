/** One line of a chart; values belong to the chart's times. */
export interface Series {
  name: string;
  /** A custom property of tokens.css: "--chart-1". */
  color: string;
  values: readonly number[];
}

/** The upper bounds of each series when they stand on each other: bounds[i][t]. */
export function stack(series: readonly Series[], length: number): number[][] {
  const sum = new Array<number>(length).fill(0);
  return series.map(({ values }) => {
    for (let t = 0; t < length; t++) sum[t] = (sum[t] ?? 0) + (values[t] ?? 0);
    return [...sum];
  });
}

/** A round number at or above the largest value, and its steps, for the axis. */
export function scale(largest: number): { top: number; ticks: number[] } {
  const step = [1, 2, 2.5, 5, 10].map((n) => n * 10 ** Math.floor(Math.log10(Math.max(largest, 1) / 3))).find((n) => n * 4 >= largest) ?? 1;
  const size = Math.max(step, 0.25);
  const ticks: number[] = [];
  for (let n = 0; n <= 4 && (n === 0 || (n - 1) * size < largest); n++) ticks.push(n * size);
  return { top: Math.max(ticks.at(-1) ?? 0, size), ticks };
}

/** An SVG path along points. */
export function line(x: readonly number[], y: readonly number[]): string {
  return x.map((at, i) => `${i === 0 ? "M" : "L"}${at.toFixed(2)} ${(y[i] ?? 0).toFixed(2)}`).join("");
}

/** An SVG path around what is between two lines. */
export function area(x: readonly number[], upper: readonly number[], lower: readonly number[]): string {
  if (x.length === 0) return "";
  const back = [...x.keys()].reverse().map((i) => `L${(x[i] ?? 0).toFixed(2)} ${(lower[i] ?? 0).toFixed(2)}`);
  return `${line(x, upper)}${back.join("")}Z`;
}
