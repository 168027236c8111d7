#include "CImages.h"

#include <stdio.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

static int fail(char *message, const char *text) {
  snprintf(message, LLV_MESSAGE, "%s", text);
  return 0;
}

static const char *words(VP8StatusCode code) {
  switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY: return "no memory";
    case VP8_STATUS_UNSUPPORTED_FEATURE: return "a feature that is not read";
    case VP8_STATUS_NOT_ENOUGH_DATA: return "truncated";
    default: return "the data is damaged";
  }
}

// One picture into the part of the canvas that it covers.
static int decode(const WebPData *data, uint8_t *rgb, int width, int height, size_t stride, char *message) {
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) return fail(message, "another version of the library");
  VP8StatusCode code = WebPGetFeatures(data->bytes, data->size, &config.input);
  if (code != VP8_STATUS_OK) return fail(message, words(code));
  if (config.input.width != width || config.input.height != height) return fail(message, "the size changed");
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = rgb;
  config.output.u.RGBA.stride = (int)stride;
  config.output.u.RGBA.size = stride * (size_t)(height - 1) + (size_t)width * 3;
  code = WebPDecode(data->bytes, data->size, &config);
  return code == VP8_STATUS_OK ? 1 : fail(message, words(code));
}

// The first frame of an animation on a black canvas.
static int decode_first(const WebPData *data, uint8_t *rgb, uint32_t width, uint32_t height, char *message) {
  WebPDemuxer *demuxer = WebPDemux(data);
  WebPIterator frame;
  if (!demuxer) return fail(message, "the data is damaged or truncated");
  int result = 0;
  if (!WebPDemuxGetFrame(demuxer, 1, &frame)) {
    fail(message, "an animation without frames");
  } else {
    if (frame.x_offset < 0 || frame.y_offset < 0 || frame.width <= 0 || frame.height <= 0 ||
        (uint32_t)frame.width > width || (uint32_t)frame.x_offset > width - (uint32_t)frame.width ||
        (uint32_t)frame.height > height || (uint32_t)frame.y_offset > height - (uint32_t)frame.height) {
      fail(message, "a frame outside the picture");
    } else {
      size_t stride = (size_t)width * 3;
      memset(rgb, 0, stride * height);
      uint8_t *first = rgb + stride * (size_t)frame.y_offset + (size_t)frame.x_offset * 3;
      result = decode(&frame.fragment, first, frame.width, frame.height, stride, message);
    }
    WebPDemuxReleaseIterator(&frame);
  }
  WebPDemuxDelete(demuxer);
  return result;
}

int llv_webp_read(const uint8_t *data, size_t count, uint8_t *rgb, uint32_t *width, uint32_t *height, char *message) {
  WebPBitstreamFeatures features;
  WebPData all = {data, count};
  VP8StatusCode code = WebPGetFeatures(data, count, &features);
  if (code != VP8_STATUS_OK) return fail(message, words(code));
  if (!rgb) {
    *width = (uint32_t)features.width;
    *height = (uint32_t)features.height;
    return 1;
  }
  if ((uint32_t)features.width != *width || (uint32_t)features.height != *height)
    return fail(message, "the size changed");
  if (features.has_animation) return decode_first(&all, rgb, *width, *height, message);
  return decode(&all, rgb, features.width, features.height, (size_t)*width * 3, message);
}
