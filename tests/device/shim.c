/* A PKCS#11 module for tests: SoftHSM with faults put in between, for what SoftHSM itself never does.
 *
 * Defined when it is compiled: MODULE, the real module, and CALLS, a file that every call's name is appended to.
 * In the environment:
 *   SHIM_FLAGS  bits to set in CK_TOKEN_INFO's flags
 *   SHIM_LOGIN  what C_Login answers instead of asking the module
 *   SHIM_HANG   a call that never returns: C_Initialize, C_GetSlotList, C_Login, C_DeriveKey or C_Sign
 *   SHIM_LACKS  a mechanism that C_GetMechanismList leaves out
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long rv;
typedef struct {
    unsigned char version[2];
    void *calls[68];
} list;
typedef struct {
    char label[32], manufacturer[32], model[16], serial[16];
    unsigned long flags;
} token_info;

/* Places in CK_FUNCTION_LIST. */
enum { INITIALIZE = 0, FINALIZE = 1, SLOT_LIST = 4, TOKEN_INFO = 6, MECHANISM_LIST = 7, OPEN_SESSION = 12, LOGIN = 18, GET_ATTRIBUTE = 24,
       FIND_INIT = 26, SIGN = 43, DERIVE = 62 };

static list *real, ours;

static void note(const char *call) {
    FILE *file = fopen(CALLS, "a");
    if (file) {
        fprintf(file, "%s\n", call);
        fclose(file);
    }
}

static void hang(const char *call) {
    const char *hung = getenv("SHIM_HANG");
    while (hung && strcmp(hung, call) == 0)
        pause();
}

#define REAL(place, ...) ((rv(*)())real->calls[place])(__VA_ARGS__)

static rv initialize(void *a) { note("C_Initialize"); hang("C_Initialize"); return REAL(INITIALIZE, a); }
static rv finalize(void *a) { note("C_Finalize"); return REAL(FINALIZE, a); }
static rv slot_list(unsigned char a, void *b, void *c) { note("C_GetSlotList"); hang("C_GetSlotList"); return REAL(SLOT_LIST, a, b, c); }
static rv find_init(rv a, void *b, rv c) { note("C_FindObjectsInit"); return REAL(FIND_INIT, a, b, c); }
static rv get_attribute(rv a, rv b, void *c, rv d) { note("C_GetAttributeValue"); return REAL(GET_ATTRIBUTE, a, b, c, d); }

static rv open_session(rv a, rv b, void *c, void *d, void *e) {
    note("C_OpenSession");
    return REAL(OPEN_SESSION, a, b, c, d, e);
}

static rv derive(rv a, void *b, rv c, void *d, rv e, void *f) {
    note("C_DeriveKey");
    hang("C_DeriveKey");
    return REAL(DERIVE, a, b, c, d, e, f);
}

static rv get_token_info(rv slot, token_info *info) {
    note("C_GetTokenInfo");
    rv answer = REAL(TOKEN_INFO, slot, info);
    const char *flags = getenv("SHIM_FLAGS");
    if (answer == 0 && flags)
        info->flags |= strtoul(flags, NULL, 0);
    return answer;
}

static rv mechanism_list(rv slot, rv *mechanisms, rv *count) {
    note("C_GetMechanismList");
    rv answer = REAL(MECHANISM_LIST, slot, mechanisms, count), kept = 0;
    const char *lacks = getenv("SHIM_LACKS");
    if (answer == 0 && mechanisms && lacks) {
        for (rv i = 0; i < *count; i++)
            if (mechanisms[i] != strtoul(lacks, NULL, 0))
                mechanisms[kept++] = mechanisms[i];
        *count = kept;
    }
    return answer;
}

static rv login(rv session, rv user, void *pin, rv length) {
    note(pin ? "C_Login" : "C_Login without a PIN");
    hang("C_Login");
    const char *answer = getenv("SHIM_LOGIN");
    return answer ? strtoul(answer, NULL, 0) : REAL(LOGIN, session, user, pin, length);
}

static rv sign(rv a, void *b, rv c, void *d, void *e) {
    note("C_Sign");
    hang("C_Sign");
    return REAL(SIGN, a, b, c, d, e);
}

rv C_GetFunctionList(list **out) {
    void *module = dlopen(MODULE, RTLD_NOW);
    rv (*get)(list **) = module ? (rv(*)(list **))dlsym(module, "C_GetFunctionList") : NULL;
    if (!get || get(&real) != 0)
        return 5;
    ours = *real;
    ours.calls[INITIALIZE] = initialize;
    ours.calls[FINALIZE] = finalize;
    ours.calls[SLOT_LIST] = slot_list;
    ours.calls[TOKEN_INFO] = get_token_info;
    ours.calls[MECHANISM_LIST] = mechanism_list;
    ours.calls[OPEN_SESSION] = open_session;
    ours.calls[LOGIN] = login;
    ours.calls[GET_ATTRIBUTE] = get_attribute;
    ours.calls[FIND_INIT] = find_init;
    ours.calls[SIGN] = sign;
    ours.calls[DERIVE] = derive;
    *out = &ours;
    return 0;
}
