const encoder = new TextEncoder();

/**
 * Cuts text to so many bytes of UTF-8. Callers choose the text, and it must not make
 * a decision fail.
 */
export function clip(text: string, bytes: number): string {
  if (text.length * 3 > bytes) {
    const { read } = encoder.encodeInto(text, new Uint8Array(bytes));
    text = text.slice(0, read);
  }
  return wellFormed(text);
}

/** Replaces halves of surrogate pairs, which UTF-8 does not have. */
export const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, "\ufffd");

const ipv4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/;

/** Returns an IP address as Tollgate takes it, and "" for anything else. */
export function ipText(address: string): string {
  const plain = address.replace(/%.*$/s, "").replace(/^::ffff:(?=[\d.]+$)/i, "");
  if (plain.length > 45 || ipv4.test(plain)) {
    return plain.length > 45 ? "" : plain.split(".").map(Number).join(".");
  }
  if (!plain.includes(":") || !/^[0-9a-fA-F:.]+$/.test(plain)) {
    return "";
  }
  try {
    return new URL(`http://[${plain}]/`).hostname.slice(1, -1);
  } catch {
    return "";
  }
}
