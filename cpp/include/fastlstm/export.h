/* FASTLSTM_API marks what a shared library shows; all else is hidden. A static library
   shows nothing, so that a program or plug-in that holds it does not either. The build
   defines FASTLSTM_SHARED. */
#ifndef FASTLSTM_EXPORT_H
#define FASTLSTM_EXPORT_H

#ifdef FASTLSTM_SHARED
#define FASTLSTM_API __attribute__((visibility("default")))
#else
#define FASTLSTM_API
#endif

#endif
