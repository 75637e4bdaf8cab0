/**
 * Returns a function that says how many ms ago this was. It takes the longer of two
 * clocks: one that nobody sets back, and one that goes on while the machine sleeps.
 */
export function ageNow(now: () => number): () => number {
  const wall = now();
  const steady = performance.now();
  return () => Math.max(performance.now() - steady, now() - wall);
}
