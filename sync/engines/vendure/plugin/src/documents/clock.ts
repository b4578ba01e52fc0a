/**
 * The clock of the shop's database, which every version is told by.
 */
import type { EntityManager } from 'typeorm';

const CLOCK = `to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/** Now: UTC, microseconds. To be read before the state whose version it becomes. */
export async function readClock(manager: EntityManager): Promise<string> {
  const [{ now }] = await manager.query(`select ${CLOCK} as now`);
  return now;
}
