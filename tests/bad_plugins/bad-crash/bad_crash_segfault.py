# A compiled extension that was built for something else.
import faulthandler

faulthandler._sigsegv()
