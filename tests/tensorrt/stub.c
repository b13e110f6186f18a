/* Stands in for libnvinfer, libnvinfer_plugin and libnvonnxparser, so that TensorRT's Python side can be
   imported on a machine that has none of them. These are all the symbols that the bindings ask for;
   whoever calls one is told so. */
#include <stdio.h>
#include <stdlib.h>

#define ABSENT(name)                                                                               \
    void *name(void)                                                                               \
    {                                                                                              \
        fprintf(stderr, #name " was called: this is a stub, with no TensorRT behind it\n");        \
        abort();                                                                                   \
    }

ABSENT(createInferBuilder_INTERNAL)
ABSENT(createInferRefitter_INTERNAL)
ABSENT(createInferRuntime_INTERNAL)
ABSENT(getBuilderPluginRegistry)
ABSENT(getPluginRegistry)
ABSENT(createNvOnnxParser_INTERNAL)
ABSENT(createNvOnnxParserRefitter_INTERNAL)
ABSENT(getNvOnnxParserVersion)
ABSENT(initLibNvInferPlugins)
