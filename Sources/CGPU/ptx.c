#pragma clang diagnostic ignored "-Wc23-extensions"
#include "CGPU.h"

#define LLV_MODULE(name) const char *const llv_ptx_##name = name
static const char attention[] = {
#embed "ptx/attention.ptx" suffix(, 0)
}, attention_int8[] = {
#embed "ptx/attention_int8.ptx" suffix(, 0)
}, gemm[] = {
#embed "ptx/gemm.ptx" suffix(, 0)
}, hopper[] = {
#embed "ptx/hopper.ptx" suffix(, 0)
}, lookup[] = {
#embed "ptx/lookup.ptx" suffix(, 0)
}, rows[] = {
#embed "ptx/rows.ptx" suffix(, 0)
}, truth[] = {
#embed "ptx/truth.ptx" suffix(, 0)
}, weights[] = {
#embed "ptx/weights.ptx" suffix(, 0)
};
LLV_MODULE(attention);
LLV_MODULE(attention_int8);
LLV_MODULE(gemm);
LLV_MODULE(hopper);
LLV_MODULE(lookup);
LLV_MODULE(rows);
LLV_MODULE(truth);
LLV_MODULE(weights);
