/**
 * Turns what a transaction touched into notes: whose the touched rows are, then one insert.
 *
 * Promises never to fail the shop's transaction. What could not be noted is logged, and reconcile finds it.
 */
import { Injectable } from '@nestjs/common';
import { ID, Logger } from '@vendure/core';
import type { EntityManager, QueryRunner } from 'typeorm';
import { ChangeNote } from './change-note.entity';
import { CommitJournal } from './commit-journal';
import { CUSTOMER, ORDER, Part } from './parts';
import { inSavepoint } from './savepoint';

/** A row that a transaction wrote. */
export interface Touch {
  part: Part;
  id: ID;
  deleted?: boolean;
}

export const LOGGER_CTX = 'CustomerSync';

const REMEDY =
  'The shop went on; the mirror learns of this change by the next one of the same customer or order. ' +
  'If the table customer_sync_note is missing, run the migration the README describes.';

@Injectable()
export class Notebook {
  readonly journal = new CommitJournal<Touch>({
    loggerCtx: LOGGER_CTX,
    remedy: REMEDY,
    key: ({ part, id, deleted }) => `${part.name}:${id}${deleted ? ' (deleted)' : ''}`,
    write: writeNotes,
  });

  touch(queryRunner: QueryRunner, touches: Touch[]): Promise<void> {
    return this.journal.enter(queryRunner, touches);
  }

  /** Look up now, not at the commit, whose a row is: it is about to be removed. */
  async touchOwners(queryRunner: QueryRunner, part: Part, id: ID): Promise<void> {
    let owners: ID[] = [];
    try {
      await inSavepoint(queryRunner, async (manager) => {
        owners = await part.owners(manager, [id]);
      });
    } catch (error) {
      Logger.error(`Could not find out whose ${part.name} ${id} is: ${error}. ${REMEDY}`, LOGGER_CTX);
    }
    const root = part.kind === 'order' ? ORDER : CUSTOMER;
    await this.touch(
      queryRunner,
      owners.map((owner) => ({ part: root, id: owner })),
    );
  }
}

async function writeNotes(manager: EntityManager, touches: Touch[]): Promise<void> {
  const notes = new Map<string, ChangeNote>();
  for (const [part, ids] of groupByPart(touches.filter(({ deleted }) => !deleted))) {
    for (const id of await part.owners(manager, ids)) {
      notes.set(`${part.kind}:${id}`, new ChangeNote({ kind: part.kind, entityId: String(id) }));
    }
  }
  for (const { part, id } of touches.filter(({ deleted }) => deleted)) {
    notes.set(`${part.kind}:${id}`, new ChangeNote({ kind: part.kind, entityId: String(id), deleted: true }));
  }
  await insert(manager, [...notes.values()]);
}

function groupByPart(touches: Touch[]): Map<Part, ID[]> {
  const groups = new Map<Part, ID[]>();
  for (const { part, id } of touches) {
    groups.set(part, [...(groups.get(part) ?? []), id]);
  }
  return groups;
}

async function insert(manager: EntityManager, notes: ChangeNote[]): Promise<void> {
  if (notes.length > 0) {
    const query = manager.createQueryBuilder().insert().into(ChangeNote).values(notes);
    await query.callListeners(false).updateEntity(false).execute();
  }
}
