/** @type {WeakMap<object, (() => Promise<unknown> | void)[]>} */
const stacks = new WeakMap();

/**
 * Runs when the test ends, before what was to be cleaned up already: the browser goes before
 * its server. Everything runs, and the first failure is the test's.
 * @param {import("node:test").TestContext} t
 * @param {() => Promise<unknown> | void} run
 */
export function cleanup(t, run) {
  const stack = stacks.get(t);
  if (stack) {
    stack.push(run);
    return;
  }
  const all = [run];
  stacks.set(t, all);
  t.after(async () => {
    /** @type {unknown[]} */
    const failures = [];
    for (const one of all.reverse()) {
      try {
        await one();
      } catch (failure) {
        failures.push(failure);
      }
    }
    if (failures.length > 0) throw failures[0];
  });
}
