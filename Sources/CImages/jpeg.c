#include "CImages.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

typedef struct {
  struct jpeg_error_mgr base;
  jmp_buf jump;
  char *message;
} failure;

static void stop(j_common_ptr info) {
  failure *error = (failure *)info->err;
  char text[JMSG_LENGTH_MAX];
  info->err->format_message(info, text);
  snprintf(error->message, LLV_MESSAGE, "%s", text);
  longjmp(error->jump, 1);
}

static void silent(j_common_ptr info) { (void)info; }

// Warnings are where the decoder goes on with made-up data. These few are harmless.
static void warn(j_common_ptr info, int level) {
  if (level >= 0) return;
  int code = info->err->msg_code;
  if (code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM) return;
  stop(info);
}

static void start(struct jpeg_decompress_struct *info, failure *error, char *message) {
  info->err = jpeg_std_error(&error->base);
  error->base.error_exit = stop;
  error->base.emit_message = warn;
  error->base.output_message = silent;
  error->message = message;
}

static int share(int part, int of) {
  int product = part * of + 128;
  return ((product >> 8) + product) >> 8;
}

// A row of inverted inks and black to RGB, with Pillow's roundings.
static void from_inks(const JSAMPLE *inks, uint8_t *rgb, JDIMENSION width) {
  for (JDIMENSION x = 0; x < width; x++, inks += 4, rgb += 3) {
    int light = inks[3];
    for (int c = 0; c < 3; c++) {
      int value = light - share(255 - inks[c], light);
      rgb[c] = (uint8_t)(value < 0 ? 0 : value);
    }
  }
}

static void read_rows(struct jpeg_decompress_struct *info, uint8_t *rgb) {
  JSAMPARRAY inks = NULL;
  if (info->output_components == 4)
    inks = info->mem->alloc_sarray((j_common_ptr)info, JPOOL_IMAGE, info->output_width * 4, 1);
  while (info->output_scanline < info->output_height) {
    JSAMPROW row = rgb + (size_t)info->output_scanline * info->output_width * 3;
    jpeg_read_scanlines(info, inks ? inks : &row, 1);
    if (inks) from_inks(inks[0], row, info->output_width);
  }
}

int llv_jpeg_read(const uint8_t *data, size_t count, uint8_t *rgb, uint32_t *width, uint32_t *height, char *message) {
  struct jpeg_decompress_struct info;
  failure error;
  memset(&info, 0, sizeof info);
  start(&info, &error, message);
  if (setjmp(error.jump)) {
    jpeg_destroy_decompress(&info);
    return 0;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, data, count);
  jpeg_read_header(&info, TRUE);
  if (rgb) {
    int components = info.num_components == 4 ? 4 : 3;
    info.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
    info.dct_method = JDCT_ISLOW;
    jpeg_start_decompress(&info);
    if (info.output_width != *width || info.output_height != *height || info.output_components != components) {
      snprintf(message, LLV_MESSAGE, "the size changed");
      longjmp(error.jump, 1);
    }
    read_rows(&info, rgb);
    jpeg_finish_decompress(&info);
  } else {
    *width = info.image_width;
    *height = info.image_height;
  }
  jpeg_destroy_decompress(&info);
  return 1;
}
