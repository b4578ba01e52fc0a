/**
 * Custom fields beside those that the shop has already: many have a tracking number of their own.
 */
import type { CustomFieldConfig, CustomFields } from '@vendure/core';

/** Add fields to an entity's. One that the shop declares itself stays as it is, if it can hold what ours does. */
export function addFields(fields: CustomFields, entity: keyof CustomFields, ours: CustomFieldConfig[]): void {
  const own = fields[entity] ?? [];
  const missing = ours.filter((field) => {
    const declared = own.find(({ name }) => name === field.name);
    if (declared && !isLike(declared, field)) {
      throw new Error(
        `commerce-mirror: the shop's own custom field ${entity}.${field.name} must be of the type ${field.type}, ` +
          `no list, and neither public nor readonly nor internal, or have another name.`,
      );
    }
    return !declared;
  });
  fields[entity] = [...own, ...missing];
}

/** Public, a shopper could set it; readonly, the mirror could not. */
function isLike(declared: CustomFieldConfig, field: CustomFieldConfig): boolean {
  const isHolder = declared.type === field.type || (declared.type === 'text' && field.type === 'string');
  const isSettable = declared.public === false && !declared.readonly;
  return isHolder && isSettable && !declared.list && !declared.internal;
}
