/* shm/crc32c.c - CRC-32C (Castagnoli) of a few hundred bytes, once per opened file.
 *
 * Bit by bit over a small table: no hardware path, because speed does not matter here and one code
 * path is one thing to test. Pure; thread-safe; async-signal-safe. Includes: shm/ only. */
#include "shm/format.h"

enum { CRC32C_NIBBLE_BITS = 4 };

/* Remainders of all 4-bit values for the reflected polynomial 0x82f63b78. */
static const uint32_t crc32c_nibble[16] = {
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
	0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t blix_crc32c(const void *data, size_t len)
{
	const uint8_t *byte = data;
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= byte[i];
		crc = (crc >> CRC32C_NIBBLE_BITS) ^ crc32c_nibble[crc & 15];
		crc = (crc >> CRC32C_NIBBLE_BITS) ^ crc32c_nibble[crc & 15];
	}
	return ~crc;
}
