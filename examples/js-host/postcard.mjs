// postcard (https://postcard.jamesmunns.com/wire-format), as far as ABI.md needs it.

/** Unsigned integers of 16 bits and more, lengths, indices of variants. */
export function uints(...values) {
  const bytes = [];
  for (let rest of values.map(BigInt)) {
    for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
    bytes.push(Number(rest));
  }
  return Buffer.from(bytes);
}

/** Signed integers. */
export function ints(...values) {
  const signed = values.map(BigInt);
  return uints(...signed.map((value) => (value < 0n ? -2n * value - 1n : 2n * value)));
}

/** Bytes and strings. */
export function blobs(...values) {
  const blobs = values.map((value) => Buffer.from(value));
  return Buffer.concat(blobs.flatMap((bytes) => [uints(bytes.length), bytes]));
}

/** Takes values off the front of some bytes. */
export function reader(rest) {
  const uint = () => {
    const length = rest.findIndex((byte) => byte < 128) + 1;
    const digits = [...rest.subarray(0, length)].map((byte) => BigInt(byte & 127));
    rest = rest.subarray(length);
    return digits.reduceRight((value, digit) => (value << 7n) | digit, 0n);
  };
  const int = () => {
    const value = uint();
    return value & 1n ? -(value + 1n) / 2n : value / 2n;
  };
  const count = () => Number(uint());
  const bytes = () => {
    const length = count();
    // A copy: what is read is the module's memory, which the next call changes.
    const copy = Buffer.from(rest.subarray(0, length));
    rest = rest.subarray(length);
    return copy;
  };
  return { uint, int, count, bytes };
}
