/**
 * The sender's side of the outbox: claim, forget, release, defer.
 *
 * A claim is a lease: other workers leave the notes alone until it lapses, and it lapses by itself when a
 * worker dies. No transaction stays open while a request is under way.
 */
import { Injectable } from '@nestjs/common';
import { TransactionalConnection } from '@vendure/core';
import { Brackets, EntityManager, In, Repository } from 'typeorm';
import { readClock } from '../documents/clock';
import { ChangeNote } from './change-note.entity';

export interface Claim {
  notes: ChangeNote[];
  /** The database's clock, UTC, microseconds: after the notes were committed, before any state is read. */
  readAt: string;
}

@Injectable()
export class NoteQueue {
  constructor(private readonly connection: TransactionalConnection) {}

  /** The oldest `limit` notes that nobody has in hand, leased for `leaseMs`. */
  claim(limit: number, leaseMs: number): Promise<Claim> {
    return this.notes.manager.transaction('READ COMMITTED', async (manager) => {
      const notes = await free(manager).take(limit).getMany();
      if (notes.length > 0) {
        await hideUntil(manager, ids(notes), leaseMs);
      }
      return { notes, readAt: await readClock(manager) };
    });
  }

  async forget(notes: ChangeNote[]): Promise<void> {
    await this.notes.delete({ id: In(ids(notes)) });
  }

  /** Give notes back, to be claimed again at once. */
  async release(notes: ChangeNote[]): Promise<void> {
    await this.notes.update({ id: In(ids(notes)) }, { notBefore: null });
  }

  /** Keep notes that the mirror refused, and let others go first. */
  async defer(notes: ChangeNote[], delayMs: number): Promise<void> {
    await hideUntil(this.notes.manager, ids(notes), delayMs);
    await this.notes.increment({ id: In(ids(notes)) }, 'refusals', 1);
  }

  private get notes(): Repository<ChangeNote> {
    return this.connection.rawConnection.getRepository(ChangeNote);
  }
}

function free(manager: EntityManager) {
  return manager
    .createQueryBuilder(ChangeNote, 'note')
    .setLock('pessimistic_write')
    .setOnLocked('skip_locked')
    .where(
      new Brackets((where) =>
        where.where('note.notBefore is null').orWhere('note.notBefore <= clock_timestamp()'),
      ),
    )
    .orderBy('note.id');
}

async function hideUntil(manager: EntityManager, noteIds: string[], delayMs: number): Promise<void> {
  const notBefore = () => `clock_timestamp() + interval '1 millisecond' * ${Math.ceil(delayMs)}`;
  await manager.update(ChangeNote, { id: In(noteIds) }, { notBefore });
}

function ids(notes: ChangeNote[]): string[] {
  return notes.map(({ id }) => id);
}
