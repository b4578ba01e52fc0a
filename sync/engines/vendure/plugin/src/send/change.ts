/**
 * From notes to what is posted: one change an entity, one event a change, requests no larger than allowed.
 */
import type { DocumentContext } from '../documents/document-context';
import type { State, States, Wanted } from '../documents/document-reader';
import { contentOf, digest, type EventHead, typeOf } from '../documents/event';
import type { ChangeNote, EntityKind } from '../notes/change-note.entity';

/** All notes of one entity that were claimed together, oldest first. */
export interface Change {
  kind: EntityKind;
  entityId: string;
  notes: ChangeNote[];
}

/** A change, ready to be posted. */
export interface OutgoingEvent {
  id: string;
  json: string;
  change: Change;
}

/** 1 MiB less the envelope around the events. */
const MAX_BYTES = 1024 * 1024 - 256;

export function collapse(notes: ChangeNote[]): Change[] {
  const changes = new Map<string, Change>();
  for (const note of notes) {
    const { kind, entityId } = note;
    const change = changes.get(`${kind}:${entityId}`) ?? { kind, entityId, notes: [] };
    change.notes.push(note);
    changes.set(`${kind}:${entityId}`, change);
  }
  return [...changes.values()].sort((one, other) => one.kind.localeCompare(other.kind));
}

export function wanted(changes: Change[]): Wanted {
  const ids = (kind: EntityKind) => changes.filter((change) => change.kind === kind).map((c) => c.entityId);
  return { customers: ids('customer'), orders: ids('order') };
}

/**
 * The event of a change, or nothing where the mirror never knew the entity: a cart or a draft.
 *
 * Throws what keeps the entity from being told.
 */
export function toEvent(
  runId: string,
  change: Change,
  states: States,
  readAt: string,
): OutgoingEvent | undefined {
  const state = stateOf(change, states);
  if (state === 'unsent') {
    return undefined;
  }
  if (state instanceof Error) {
    throw state;
  }
  const { json, hash } = contentOf(state);
  const id = eventId(runId, change, states.context, json);
  const entityId = states.context.rawId(change.entityId);
  const head: EventHead = { id, type: typeOf(change.kind, state), entityId, readAt, hash };
  return { id, json: `${JSON.stringify(head).slice(0, -1)},"data":${json}}`, change };
}

function stateOf({ kind, entityId, notes }: Change, { customers, orders }: States): State {
  if (kind === 'customer') {
    return customers.get(entityId) ?? 'gone';
  }
  return orders.get(entityId) ?? (notes.some(({ deleted }) => deleted) ? 'gone' : 'unsent');
}

/**
 * The same for every delivery of the same notes and content by this process; never the same for two states, not
 * even when the shop's database is restored and note ids start again.
 */
function eventId(
  runId: string,
  { kind, entityId, notes }: Change,
  context: DocumentContext,
  content: string,
): string {
  const mark = digest(content).slice(0, 12);
  return `${runId}-${kind}-${context.rawId(entityId)}-${notes.at(-1)?.id}.${notes.length}-${mark}`;
}

/** Fill requests up to `size` events and 1 MiB; an event that is larger travels alone. */
export function slice(events: OutgoingEvent[], size: number): OutgoingEvent[][] {
  const slices: OutgoingEvent[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const event of events) {
    const length = Buffer.byteLength(event.json) + 1;
    const last = slices.at(-1);
    if (last && last.length < size && bytes + length <= MAX_BYTES) {
      last.push(event);
      bytes += length;
    } else {
      slices.push([event]);
      bytes = length;
    }
  }
  return slices;
}
