/**
 * How long to wait after the n-th failure: doubles, stops at a minute, and is spread so that many shops, or many
 * notes, do not come back at the same moment.
 */
const FIRST_MS = 500;
const MOST_MS = 60_000;

export function backoffMs(failures: number): number {
  const ceiling = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(failures, 16));
  return ceiling / 2 + Math.random() * (ceiling / 2);
}
