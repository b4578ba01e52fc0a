/**
 * The parts of a document in the order in which they came to be. The database gives them in any order, and the same
 * state must always become the same document.
 */
import type { ID } from '@vendure/core';

interface Part {
  id: ID;
  createdAt: Date;
}

export function oldestFirst<Row extends Part>(parts: Row[]): Row[] {
  return [...parts].sort(
    (one, other) => one.createdAt.getTime() - other.createdAt.getTime() || compare(one.id, other.id),
  );
}

/** Numbers by their value, UUIDs by their letters. */
function compare(one: ID, other: ID): number {
  return typeof one === 'number' && typeof other === 'number' ? one - other : one < other ? -1 : 1;
}
