#include "CImages.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

typedef struct {
  const uint8_t *data;
  size_t count, at;
  char *message;
} source;

static void stop(png_structp png, png_const_charp text) {
  source *from = png_get_error_ptr(png);
  snprintf(from->message, LLV_MESSAGE, "%s", text);
  longjmp(png_jmpbuf(png), 1);
}

static void silent(png_structp png, png_const_charp text) {
  (void)png;
  (void)text;
}

static void take(png_structp png, png_bytep target, size_t count) {
  source *from = png_get_io_ptr(png);
  if (count > from->count - from->at) png_error(png, "truncated");
  memcpy(target, from->data + from->at, count);
  from->at += count;
}

static png_structp start(source *from, png_infop *info) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, from, stop, silent);
  if (!png) return NULL;
  *info = png_create_info_struct(png);
  if (!*info) {
    png_destroy_read_struct(&png, NULL, NULL);
    return NULL;
  }
  png_set_read_fn(png, from, take);
  // Text, profiles, gamma and transparency do not reach the model; what is skipped is never inflated.
  static const png_byte skipped[] =
      "acTL\0bKGD\0cHRM\0eXIf\0fcTL\0fdAT\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME"
      "\0tRNS\0zTXt";
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, skipped, sizeof skipped / 5);
  return png;
}

int llv_png_read(const uint8_t *data, size_t count, uint8_t *rgb, uint32_t *width, uint32_t *height, char *message) {
  source from = {data, count, 0, message};
  png_infop info = NULL;
  png_structp png = start(&from, &info);
  if (!png) {
    snprintf(message, LLV_MESSAGE, "no memory");
    return 0;
  }
  if (setjmp(png_jmpbuf(png))) {
    png_destroy_read_struct(&png, &info, NULL);
    return 0;
  }
  png_read_info(png, info);
  if (rgb) {
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_image_width(png, info) != *width || png_get_image_height(png, info) != *height ||
        png_get_rowbytes(png, info) != (size_t)*width * 3)
      png_error(png, "the size changed");
    for (int pass = 0; pass < passes; pass++)
      for (uint32_t row = 0; row < *height; row++) png_read_row(png, rgb + (size_t)row * *width * 3, NULL);
    png_read_end(png, NULL);
  } else {
    *width = png_get_image_width(png, info);
    *height = png_get_image_height(png, info);
  }
  png_destroy_read_struct(&png, &info, NULL);
  return 1;
}
