import { describe, expect, test } from 'vitest';
import { ChangeNote, type EntityKind } from '../src/notes/change-note.entity';
import { backoffMs } from '../src/send/backoff';
import { collapse, type OutgoingEvent, slice } from '../src/send/change';
import { retryAfterMs } from '../src/send/endpoint';

const note = (id: string, kind: EntityKind, entityId: string) => new ChangeNote({ id, kind, entityId });
const event = (id: string, bytes: number): OutgoingEvent => ({
  id,
  json: 'x'.repeat(bytes),
  change: { kind: 'order', entityId: id, notes: [] },
});

describe('Notes', () => {
  test('of one entity become one change, customers before orders', () => {
    const changes = collapse([note('1', 'order', '7'), note('2', 'customer', '7'), note('3', 'order', '7')]);
    expect(changes.map(({ kind, notes }) => [kind, notes.map(({ id }) => id)])).toEqual([
      ['customer', ['2']],
      ['order', ['1', '3']],
    ]);
  });
});

describe('Requests', () => {
  test('hold as many events as asked for', () => {
    const slices = slice([event('1', 9), event('2', 9), event('3', 9)], 2);
    expect(slices.map((events) => events.map(({ id }) => id))).toEqual([['1', '2'], ['3']]);
  });

  test('stay under 1 MiB, and a larger event travels alone', () => {
    const slices = slice(
      [event('1', 600_000), event('2', 600_000), event('3', 2_000_000), event('4', 9)],
      100,
    );
    expect(slices.map((events) => events.map(({ id }) => id))).toEqual([['1'], ['2'], ['3'], ['4']]);
  });
});

describe('Waiting', () => {
  test('doubles, is spread, and stops at a minute', () => {
    for (const [failures, most] of [
      [0, 500],
      [1, 1000],
      [5, 16_000],
      [40, 60_000],
    ] as const) {
      const waits = Array.from({ length: 50 }, () => backoffMs(failures));
      expect(Math.max(...waits)).toBeLessThanOrEqual(most);
      expect(Math.min(...waits)).toBeGreaterThanOrEqual(most / 2);
    }
  });

  test('reads Retry-After as seconds or as a date, and nonsense as nothing', () => {
    expect(retryAfterMs('3')).toBe(3000);
    expect(retryAfterMs(new Date(Date.now() + 10_000).toUTCString())).toBeGreaterThan(8000);
    expect(retryAfterMs('soon')).toBe(0);
    expect(retryAfterMs(null)).toBe(0);
  });
});
