// libjpeg-turbo, libpng, libwebp and libavif behind a call each. The first two report errors by jumping, which Swift
// must never see: the jump ends here, and the caller gets 0 and a message. The caller owns all pixel memory and has
// compared the sizes with its limits.
#ifndef CIMAGES_H
#define CIMAGES_H

#include <stddef.h>
#include <stdint.h>

enum { LLV_MESSAGE = 256 };

// With rgb null, finds width and height. Else fills RGB rows, 8 bits a channel, [height, width, 3], of the width and
// height found before. 1 on success; message: [LLV_MESSAGE], filled on failure.
//
// JPEG: the slow integer transform and smooth chroma upsampling. Data that the decoder would patch over (cut, wrong
// codes, lost restart markers) is a failure.
int llv_jpeg_read(const uint8_t *data, size_t count, uint8_t *rgb, uint32_t *width, uint32_t *height, char *message);
// PNG: palettes looked up, grey replicated, 16 bits cut to the high 8, alpha dropped. Ancillary chunks are skipped.
int llv_png_read(const uint8_t *data, size_t count, uint8_t *rgb, uint32_t *width, uint32_t *height, char *message);
// WebP: alpha dropped; of an animation the first frame, on a black canvas where it does not cover all.
int llv_webp_read(const uint8_t *data, size_t count, uint8_t *rgb, uint32_t *width, uint32_t *height, char *message);
// AVIF: the primary picture, or a sequence's first; alpha dropped, neither rotated nor mirrored.
int llv_avif_read(const uint8_t *data, size_t count, uint8_t *rgb, uint32_t *width, uint32_t *height, char *message);

#endif
