/**
 * Answers what the mirror asks to prove that nothing is missing: how many there are, what each is like, and the
 * documents of some.
 *
 * All of it by the reader and the clock that hooks are made by, so that equal states have equal hashes.
 */
import { Injectable } from '@nestjs/common';
import { ID, Logger, TransactionalConnection } from '@vendure/core';
import { readClock } from '../documents/clock';
import { Json } from '../documents/document-context';
import { DocumentReader, Snapshot, State, States } from '../documents/document-reader';
import { contentOf, EventHead, typeOf } from '../documents/event';
import type { EntityKind } from '../notes/change-note.entity';
import { LOGGER_CTX } from '../notes/notebook';
import { count, listIds } from './mirrored';

export interface Fingerprint {
  /** Raw: Vendure encodes the ids of its answers. */
  id: ID;
  hash: string;
}

export interface Slice {
  readAt: string;
  counted: number;
  fingerprints: Fingerprint[];
  /** The last id of the slice, as the Admin API writes it; `null` at the end. */
  position: string | null;
}

export type DocumentEvent = EventHead & { data: Json | null };

/** Rows that are read at once: more hold the server's event loop, and its shoppers, for longer. */
const PART = 100;

/** The hash of what cannot be read: equal to none, so that it is never taken for mirrored. */
const UNREADABLE = 'unreadable';

@Injectable()
export class Sweeper {
  constructor(
    private readonly connection: TransactionalConnection,
    private readonly reader: DocumentReader,
  ) {}

  count(kind: EntityKind, since?: Date): Promise<number> {
    return count(this.connection.rawConnection.manager, kind, {}, since);
  }

  /** The slice of `limit` entities after a position; undefined if there is no such position. */
  async sweep(kind: EntityKind, limit: number, position?: string, since?: Date): Promise<Slice | undefined> {
    const readAt = await this.readClock();
    return this.reader.inSnapshot(async (snapshot) => {
      const { context, manager } = snapshot;
      const after = position === undefined ? undefined : context.decoded(position);
      if (position !== undefined && after === undefined) {
        return undefined;
      }
      const ids = await listIds(manager, kind, { after }, limit + 1, since);
      const upTo = ids.length > limit ? ids[limit - 1] : undefined;
      const counted = await count(manager, kind, { after, upTo }, since);
      const fingerprints = await fingerprint(snapshot, kind, ids.slice(0, limit));
      return { readAt, counted, fingerprints, position: upTo === undefined ? null : context.id(upTo) };
    });
  }

  /** What hooks would say of these entities now. One that cannot be read is missing, and logged. */
  async documents(kind: EntityKind, ids: ID[]): Promise<DocumentEvent[]> {
    const readAt = await this.readClock();
    const states = await this.reader.read(wanted(kind, ids));
    return [...new Set(ids)].flatMap((id) => documentEvent(kind, id, readAt, states) ?? []);
  }

  /** On the primary, as the reader: a replica's state may be older than its clock says. */
  private async readClock(): Promise<string> {
    const runner = this.connection.rawConnection.createQueryRunner('master');
    try {
      return await readClock(runner.manager);
    } finally {
      await runner.release();
    }
  }
}

async function fingerprint(snapshot: Snapshot, kind: EntityKind, ids: ID[]): Promise<Fingerprint[]> {
  const found: Fingerprint[] = [];
  for (let start = 0; start < ids.length; start += PART) {
    const part = ids.slice(start, start + PART);
    const states = await snapshot.read(wanted(kind, part));
    found.push(...part.map((id) => ({ id, hash: hashOf(kind, id, states) })));
  }
  return found;
}

function hashOf(kind: EntityKind, id: ID, states: States): string {
  const state = stateOf(kind, id, states);
  return (state instanceof Error ? null : contentOf(state).hash) ?? UNREADABLE;
}

function documentEvent(kind: EntityKind, id: ID, readAt: string, states: States): DocumentEvent | undefined {
  const state = stateOf(kind, id, states);
  if (state instanceof Error) {
    Logger.error(`The shop could not read ${kind} ${id}, for which the mirror asks: ${state}`, LOGGER_CTX);
    return undefined;
  }
  const { hash } = contentOf(state);
  const entityId = states.context.id(id);
  return {
    id: `${kind}-${entityId}-${readAt}-${hash ?? 'gone'}`,
    type: typeOf(kind, state),
    entityId,
    readAt,
    hash,
    data: state === 'gone' ? null : state,
  };
}

function wanted(kind: EntityKind, ids: ID[]) {
  const raw = ids.map(String);
  return kind === 'customer' ? { customers: raw, orders: [] } : { customers: [], orders: raw };
}

/** Asked for by its id, what is not in the database is gone, and a cart is no order of the mirror's. */
function stateOf(kind: EntityKind, id: ID, { customers, orders }: States): Exclude<State, 'unsent'> {
  const state = (kind === 'customer' ? customers : orders).get(String(id)) ?? 'gone';
  return state === 'unsent' ? 'gone' : state;
}
