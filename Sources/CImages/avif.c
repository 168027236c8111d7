#include "CImages.h"

#include <stdio.h>

#include <avif/avif.h>

static int fail(avifDecoder *decoder, char *message, const char *text) {
  int isDetailed = decoder && decoder->diag.error[0] != 0;
  snprintf(message, LLV_MESSAGE, "%.60s%s%.180s", text, isDetailed ? ": " : "", isDetailed ? decoder->diag.error : "");
  if (decoder) avifDecoderDestroy(decoder);
  return 0;
}

int llv_avif_read(const uint8_t *data, size_t count, uint8_t *rgb, uint32_t *width, uint32_t *height, char *message) {
  avifDecoder *decoder = avifDecoderCreate();
  if (!decoder) return fail(NULL, message, "no memory");
  decoder->maxThreads = 1;
  decoder->ignoreExif = AVIF_TRUE;
  decoder->ignoreXMP = AVIF_TRUE;
  // What the decoder of the pixels may meet, whatever the container says; as many as the caller allows a picture.
  decoder->imageSizeLimit = 64u << 20;
  // As Pillow has it: many writers leave this box out.
  decoder->strictFlags &= ~(avifStrictFlags)(AVIF_STRICT_PIXI_REQUIRED | AVIF_STRICT_CLAP_VALID);
  avifResult result = avifDecoderSetIOMemory(decoder, data, count);
  if (result == AVIF_RESULT_OK) result = avifDecoderParse(decoder);
  if (result != AVIF_RESULT_OK) return fail(decoder, message, avifResultToString(result));
  if (!rgb) {
    *width = decoder->image->width;
    *height = decoder->image->height;
    avifDecoderDestroy(decoder);
    return 1;
  }
  result = avifDecoderNextImage(decoder);
  if (result != AVIF_RESULT_OK) return fail(decoder, message, avifResultToString(result));
  if (decoder->image->width != *width || decoder->image->height != *height)
    return fail(decoder, message, "the size changed");
  avifRGBImage target;
  avifRGBImageSetDefaults(&target, decoder->image);
  target.format = AVIF_RGB_FORMAT_RGB;
  target.depth = 8;
  target.pixels = rgb;
  target.rowBytes = *width * 3;
  // With an alpha plane the library would lay the picture on black; without one it gives the colours as they are.
  if (decoder->image->alphaPlane && decoder->image->alphaPremultiplied)
    return fail(decoder, message, "colours multiplied by alpha are not read");
  uint8_t *alpha = decoder->image->alphaPlane;
  decoder->image->alphaPlane = NULL;
  result = avifImageYUVToRGB(decoder->image, &target);
  decoder->image->alphaPlane = alpha;
  if (result != AVIF_RESULT_OK) return fail(decoder, message, avifResultToString(result));
  avifDecoderDestroy(decoder);
  return 1;
}
