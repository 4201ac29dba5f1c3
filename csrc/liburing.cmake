# liburing >= 2.10 (io_uring_register_ifq), linked statically and by its path:
# a plain -luring takes whatever old shared library the system has first.
pkg_check_modules(URING QUIET liburing)

set(hint "run scripts/get-liburing and put the directory it prints into \
PKG_CONFIG_PATH, or install liburing-dev >= 2.10")

if(NOT URING_FOUND)
  message(FATAL_ERROR "pyzcrx: liburing >= 2.10 is needed, none was found: ${hint}")
endif()
if(URING_VERSION VERSION_LESS 2.10)
  message(FATAL_ERROR
    "pyzcrx: liburing >= 2.10 is needed, ${URING_VERSION} was found in ${URING_LIBDIR}: ${hint}")
endif()

find_library(URING_ARCHIVE liburing.a PATHS ${URING_LIBDIR} ${URING_LIBRARY_DIRS}
  NO_DEFAULT_PATH NO_CACHE)
if(NOT URING_ARCHIVE)
  message(FATAL_ERROR
    "pyzcrx: liburing ${URING_VERSION} in ${URING_LIBDIR} has no liburing.a to link: ${hint}")
endif()
message(STATUS "liburing ${URING_VERSION}: ${URING_ARCHIVE}")

add_library(liburing STATIC IMPORTED)
set_target_properties(liburing PROPERTIES
  IMPORTED_LOCATION "${URING_ARCHIVE}"
  INTERFACE_INCLUDE_DIRECTORIES "${URING_INCLUDEDIR}"
  INTERFACE_COMPILE_DEFINITIONS "PYZCRX_LIBURING=\"${URING_VERSION}\"")
