/**
 * What every document needs to know of the shop: how ids are written, its language, its custom fields.
 */
import { ConfigService, CustomFields, ID, LanguageCode } from '@vendure/core';

export type Json = Record<string, unknown>;

interface Translatable {
  translations?: Array<{ languageCode: LanguageCode; name?: string }>;
}

export class DocumentContext {
  constructor(
    private readonly config: ConfigService,
    private readonly language: LanguageCode,
  ) {}

  /** The id as the Admin API writes it. */
  id = (id: ID): string => {
    const { entityIdStrategy } = this.config.entityOptions;
    return String(entityIdStrategy ? entityIdStrategy.encodeId(id as never) : id);
  };

  /** The raw id behind one that the Admin API wrote; undefined where it wrote no such id. */
  decoded(id: string): ID | undefined {
    const { entityIdStrategy } = this.config.entityOptions;
    const raw = entityIdStrategy ? entityIdStrategy.decodeId(id) : id;
    return this.id(raw) === id ? raw : undefined;
  }

  /** A raw id from a note, in the type the id strategy expects. */
  rawId(id: string): string {
    const increments = this.config.entityOptions.entityIdStrategy?.primaryKeyType === 'increment';
    return this.id(increments ? Number(id) : id);
  }

  /** The name in the default channel's language, or else in the first of the others. */
  name(entity: Translatable | null | undefined): string | null {
    const translations = entity?.translations ?? [];
    const own = translations.find(({ languageCode }) => languageCode === this.language);
    const [first] = [...translations].sort((one, other) => (one.languageCode < other.languageCode ? -1 : 1));
    return (own ?? first)?.name ?? null;
  }

  /** The custom fields that the Admin API shows, without relations to other entities. */
  customFields(entity: keyof CustomFields, values: object | undefined): Json {
    const fields = this.config.customFields[entity] ?? [];
    const shown = fields.filter(({ type, internal }) => type !== 'relation' && !internal);
    return Object.fromEntries(shown.map(({ name }) => [name, (values as Json | undefined)?.[name] ?? null]));
  }
}
