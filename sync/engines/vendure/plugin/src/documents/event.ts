/**
 * What is said of an entity, by a hook or in an answer of the Admin API: an event of docs/vendure-hooks.md.
 */
import { createHash } from 'node:crypto';
import type { EntityKind } from '../notes/change-note.entity';
import type { Json } from './document-context';

/** All of an event but its `data`. */
export interface EventHead {
  id: string;
  type: string;
  entityId: string;
  readAt: string;
  hash: string | null;
}

/** A document as JSON and the digest of exactly that; of what is gone, `null` and none. */
export interface Content {
  json: string;
  hash: string | null;
}

const HASH_LENGTH = 24;

/** So much of a hash stays the same when only a product, a shipping method, a group or a country has another name. */
const NAMELESS_LENGTH = 16;

export function contentOf(state: Json | 'gone'): Content {
  if (state === 'gone') {
    return { json: 'null', hash: null };
  }
  const json = JSON.stringify(state);
  return { json, hash: hashOf(state, json) };
}

/** 96 bits tell the content but for its names, 48 the whole: a renamed product changes orders that no hook tells of. */
function hashOf(state: Json, json: string): string {
  const nameless = JSON.stringify(state, (key, value) => (key === 'name' ? undefined : value));
  return digest(nameless).slice(0, NAMELESS_LENGTH) + digest(json).slice(NAMELESS_LENGTH);
}

export function typeOf(kind: EntityKind, state: Json | 'gone'): string {
  return `${kind}.${state === 'gone' ? 'deleted' : 'changed'}`;
}

/** 144 bits of SHA-256, as base64url. */
export function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, HASH_LENGTH);
}
