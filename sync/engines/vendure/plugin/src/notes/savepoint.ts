/**
 * Work inside someone else's transaction that cannot break it.
 *
 * TypeORM starts all subscribers of a moment at once, on one connection: savepoints of the same connection
 * therefore take turns.
 */
import type { EntityManager, QueryRunner } from 'typeorm';

type Work = (manager: EntityManager) => Promise<void>;

const SAVEPOINT = 'commerce_mirror';
const turns = new WeakMap<QueryRunner, Promise<void>>();

/** Run `work`; if it fails, undo it alone and reject. The transaction around it stays usable either way. */
export function inSavepoint(queryRunner: QueryRunner, work: Work): Promise<void> {
  const before = turns.get(queryRunner) ?? Promise.resolve();
  const turn = before.then(() => attempt(queryRunner, work));
  turns.set(
    queryRunner,
    turn.catch(() => undefined),
  );
  return turn;
}

async function attempt(queryRunner: QueryRunner, work: Work): Promise<void> {
  if (!queryRunner.isTransactionActive) {
    return work(queryRunner.manager);
  }
  await queryRunner.query(`SAVEPOINT ${SAVEPOINT}`);
  try {
    await work(queryRunner.manager);
  } catch (error) {
    await queryRunner.query(`ROLLBACK TO SAVEPOINT ${SAVEPOINT}`);
    throw error;
  }
  await queryRunner.query(`RELEASE SAVEPOINT ${SAVEPOINT}`);
}
