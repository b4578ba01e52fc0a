/** The named properties of a row and no others: what is not listed never leaves the shop. */
export function pick<Row extends object>(row: Row, keys: ReadonlyArray<keyof Row>): Record<string, unknown> {
  return Object.fromEntries(keys.map((key) => [key, row[key] ?? null]));
}
